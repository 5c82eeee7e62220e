"""Extraction of a feature file from images or texts; an interrupted run resumes where it stopped."""

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
from gmmrec.errors import DataError, UsageError
from gmmrec.safety.names import check_name

ENDING = "_feat.npz"


@dataclass(frozen=True)
class Extraction:
    """Result of an extraction.

    Attributes:
        path: Path of the feature file.
        items: Number of items of the source.
        shape: Shape of the values written.
        dtype: Type of the values written.
        settings: Encoder and token axis.
        missing: Items without a value, and the reasons.
        resumed: Number of items done by an earlier, interrupted run.
        encoder_dim: Width of the encoder's vectors.
        kept_variance: Share of the variance kept by the principal components; None if the width was not reduced.
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the list of missing items, for JSON."""
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
    """Encode items and write ``NAME_feat.npz``: ``ids``, ``values`` (float16 if in range) and, with a token axis, ``mask``.

    Items without a value are left out, so that they are masked when the file is read, and listed in ``NAME_feat.missing.csv``;
    ``NAME_feat.json`` holds the settings. Finished parts are kept in the folder ``NAME_feat.parts`` until all are done; a second
    call resumes an interrupted run from there. Parts are named by a hash of their content, so that none is reused with other
    settings, encoders or inputs.

    Args:
        source: Items to encode.
        path: Path of the new file.
        dim: Width after a principal component analysis of all vectors; None keeps the encoder's.
        batch_size: Number of inputs encoded at once.
        part_size: Number of items per part, whose work an interruption loses at most.
        progress: Whether to show a progress bar in a terminal.

    Raises:
        DataError: The file exists, its name is not one that the reader expects, or no item has a value.
        UsageError: The encoder gives no more dimensions, or vectors, than ``dim``, or values that fit neither mask nor rows.
    """
    path = Path(path)
    check_positive(batch_size=batch_size, part_size=part_size)
    if dim is not None:
        check_positive(dim=dim)
    check_name(path.name, "file of features")
    if not path.name.endswith(ENDING) or path.name.startswith(("user_", ENDING)):
        raise DataError(f"{path.name} would not be read as item features; name it NAME{ENDING}, not user_NAME{ENDING}")
    if path.exists():
        raise DataError(f"{path.name} already exists; give another name, or remove it first")
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
    """Return items with a value, the other items with the reason, the shape of one item's value, and the largest number."""
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
        item, reason = next(iter(missing.items()), (None, "there are no items"))
        raise DataError(f"none of the {len(source.ids):,} items has a value; the reason for the first one, {item!r}: {reason}")
    if len(shapes) > 1:
        raise UsageError(f"an encoder must give all batches the same number of tokens and width, but gave {sorted(shapes)}")
    return ids, missing, shapes.pop(), largest


def _join(
    parts: Sequence[Part], shape: tuple[int, ...], dtype: np.dtype[Any], components: PrincipalComponents | None
) -> dict[str, NDArray[Any]]:
    """Return the concatenated values of all parts, and the mask if there is a token axis."""
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
    path.with_suffix(".json").write_text(json.dumps(extraction.to_dict(), indent=2) + "\n", encoding="utf-8")
    listing = path.with_suffix(".missing.csv")
    listing.unlink(missing_ok=True)
    if extraction.missing:
        with listing.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "reason"), *extraction.missing.items()])
