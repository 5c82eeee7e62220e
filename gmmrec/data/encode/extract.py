"""Writes a feature file from pictures or texts; a run that is interrupted goes on where it stopped."""

import csv
import json
import shutil
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gmmrec.config import check_positive
from gmmrec.data.encode.parts import Part, encode_part, parts_of, read_parts, save_whole
from gmmrec.data.encode.reduce import PrincipalComponents
from gmmrec.data.encode.source import Source
from gmmrec.data.errors import DataError

ENDING = "_feat.npz"


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        path: The feature file.
        items: How many items were asked for.
        shape: Of the values that were written.
        dtype: Their type.
        settings: Encoder and token axis.
        missing: Items without a value, and why.
        resumed: How many of the items an earlier, interrupted run had done.
        encoder_dim: Width that the encoder gave.
        kept_variance: Share of the variance that the principal components keep; None where the width was not reduced.
    """

    path: Path
    items: int
    shape: tuple[int, ...]
    dtype: str
    settings: dict[str, object]
    missing: dict[Hashable, str]
    resumed: int
    encoder_dim: int
    kept_variance: float | None

    def facts(self) -> dict[str, Any]:
        """All of it but the list of missing items, for JSON."""
        return {
            "file": self.path.name,
            **self.settings,
            "items": self.items,
            "missing": len(self.missing),
            "shape": self.shape,
            "dtype": self.dtype,
            "encoder_dim": self.encoder_dim,
            "kept_variance": self.kept_variance,
            "resumed": self.resumed,
        }


def extract(
    source: Source,
    path: str | Path,
    *,
    dim: int | None = None,
    batch_size: int = 32,
    part_size: int = 128,
    progress: bool = False,
) -> Extraction:
    """Encodes items and writes ``NAME_feat.npz``: ``ids``, ``values`` (float16 if it holds them), with a token axis also ``mask``.

    Items without a value are left out, so they are masked when the file is read, and listed in ``NAME_feat.missing.csv``;
    ``NAME_feat.json`` says how the file was made. Parts wait in the folder ``NAME_feat.parts`` until all are done. A run that was
    interrupted goes on there when it is called again: parts are named by their content, so that nothing is taken over from other
    settings, encoders or inputs.

    Args:
        source: The items.
        path: The new file.
        dim: Width after a principal component analysis of all vectors that are written; None keeps the encoder's.
        batch_size: Inputs that are encoded at once.
        part_size: Items whose work is lost at most.
        progress: Whether to show a bar, where there is a terminal.

    Raises:
        DataError: The file exists already, is not named as the reader expects, or not one item has a value.
        ValueError: The encoder gives fewer dimensions, or fewer vectors, than ``dim``, or values that fit neither mask nor rows.
    """
    path = Path(path)
    check_positive(batch_size=batch_size, part_size=part_size)
    if dim is not None:
        check_positive(dim=dim)
    if not path.name.endswith(ENDING) or path.name.startswith(("user_", ENDING)):
        raise DataError(f"{path.name} would not be read as features of items; name it NAME{ENDING}, and not user_NAME{ENDING}")
    if path.exists():
        raise DataError(f"{path.name} exists already; give another name, or remove it first")
    folder = path.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = parts_of(source, folder, part_size)
    resumed = sum(len(part.rows) for part in parts if part.path.exists())
    with tqdm(total=len(source.ids), initial=resumed, unit=" items", disable=None if progress else True, leave=False) as bar:
        for part in parts:
            if not part.path.exists():
                save_whole(part.path, folder, encode_part(source, part.rows, batch_size, bar.update))
    ids, missing, shape, largest = _survey(source, parts)
    components, kept = None, None
    if dim is not None:
        components = PrincipalComponents()
        for _, arrays in read_parts(parts):
            components.add(arrays["values"][arrays["mask"]])
        kept = components.fit(dim)
    bound = largest if components is None else 2 * largest * shape[-1] ** 0.5  # no coordinate exceeds the distance from the mean
    dtype = np.dtype(np.float16 if 1e-2 < bound < float(np.finfo(np.float16).max) else np.float32)
    arrays = _join(parts, (len(ids), *shape[:-1], dim or shape[-1]), dtype, components)
    extraction = Extraction(
        path, len(source.ids), arrays["values"].shape, dtype.name, source.settings(), missing, resumed, shape[-1], kept
    )
    _write_report(extraction)
    is_integer = all(isinstance(item, int) for item in ids)
    save_whole(path, folder, {"ids": np.array(ids, dtype=np.int64 if is_integer else np.str_), **arrays})
    shutil.rmtree(folder)
    return extraction


def _survey(source: Source, parts: Sequence[Part]) -> tuple[list[Hashable], dict[Hashable, str], tuple[int, ...], float]:
    """Items with a value, the others with the reason, the shape of one item's value, the largest number."""
    ids: list[Hashable] = []
    missing: dict[Hashable, str] = {}
    shapes: set[tuple[int, ...]] = set()
    largest = 0.0
    for part, arrays in read_parts(parts):
        reasons = dict(zip(arrays["missing"].tolist(), arrays["reasons"].tolist(), strict=True))
        missing |= {source.ids[part.rows[row]]: reasons[row] for row in sorted(reasons)}
        ids += [source.ids[part.rows[row]] for row in arrays["rows"].tolist()]
        if len(arrays["rows"]):
            shapes.add(arrays["values"].shape[1:])
            largest = max(largest, float(np.abs(arrays["values"]).max()))
    if not ids:
        item, reason = next(iter(missing.items()), (None, "there is none"))
        raise DataError(f"not one of the {len(source.ids):,} items has a value; of the first, {item!r}, it is known: {reason}")
    if len(shapes) > 1:
        raise ValueError(f"an encoder must give every batch the same tokens and width, but gave {sorted(shapes)}")
    return ids, missing, shapes.pop(), largest


def _join(
    parts: Sequence[Part], shape: tuple[int, ...], dtype: np.dtype[Any], components: PrincipalComponents | None
) -> dict[str, NDArray[Any]]:
    """Values of all parts one below the other, and the mask where there is a token axis."""
    values, mask = np.zeros(shape, dtype), np.zeros(shape[:-1], np.bool_)
    end = 0
    for _, arrays in read_parts(parts):
        start, end = end, end + len(arrays["rows"])
        mask[start:end] = arrays["mask"]
        present = arrays["values"][arrays["mask"]]
        values[start:end][arrays["mask"]] = present if components is None else components.project(present)
    return {"values": values, "mask": mask} if len(shape) == 3 else {"values": values}


def _write_report(extraction: Extraction) -> None:
    path = extraction.path
    path.with_suffix(".json").write_text(json.dumps(extraction.facts(), indent=2) + "\n", encoding="utf-8")
    listing = path.with_suffix(".missing.csv")
    listing.unlink(missing_ok=True)
    if extraction.missing:
        with listing.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "reason"), *extraction.missing.items()])
