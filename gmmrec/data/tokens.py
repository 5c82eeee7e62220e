"""What the tokens of a modality are: regions of a picture, crops, words, attributes."""

import csv
import gzip
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

TokenKind: TypeAlias = Literal["grid", "crops", "names", "pieces", "numbered"]

PIECES = "_pieces.csv.gz"
"""Ending of a file of word pieces; before it stands the modality."""

CROPS = ("top left", "top right", "bottom left", "bottom right", "centre")
"""Names of the five crops, in their order."""


@dataclass(frozen=True)
class TokenNames:
    """Names for the tokens of one modality.

    Attributes:
        kind: A grid of regions, row by row from the top left; five crops; tokens that have the same names for every node; the word
            pieces of a text; or anything, told apart by numbers.
        size: Side of a grid.
        names: What every token is called, where these are the same for all nodes.
        pieces: Word pieces by raw id, spelled as text and separated by spaces.
    """

    kind: TokenKind
    size: int = 0
    names: Sequence[str] = ()
    pieces: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))

    def labels(self, node_id: object, count: int) -> list[str]:
        """What the first ``count`` tokens of a node are; numbers, from 1, where nothing is known.

        >>> TokenNames("grid", size=2).labels("dress", 4)
        ['row 1, column 1', 'row 1, column 2', 'row 2, column 1', 'row 2, column 2']
        >>> TokenNames("pieces", pieces={"7": "black tights"}).labels(7, 3)
        ['black', 'tights', '3']
        """
        known: Sequence[str] = self.names
        if self.kind == "grid":
            known = [f"row {row}, column {column}" for row in range(1, self.size + 1) for column in range(1, self.size + 1)]
        elif self.kind == "crops":
            known = CROPS
        elif self.kind == "pieces":
            known = self.pieces.get(str(node_id), "").split()
        return [known[position] if position < len(known) else str(position + 1) for position in range(count)]


def read_tokens(path: Path, count: int) -> TokenNames | None:
    """What is said beside a feature file of the ``count`` tokens in it; None where nothing is.

    Read are ``NAME.json`` with the list ``names``, ``NAME_feat.json`` with what ``gmmrec data features`` did, and
    ``NAME_pieces.csv.gz`` with the columns item, place (from 0) and piece.

    Args:
        path: ``NAME_feat.npz``.
        count: Tokens of a node.
    """
    stem = path.name.rsplit("_feat", 1)[0]
    names = _json(path.with_name(f"{stem}.json")).get("names")
    if isinstance(names, list) and len(names) == count:
        return TokenNames("names", names=tuple(map(str, names)))
    made = _json(path.with_suffix(".json"))
    size = made.get("regions")
    if isinstance(size, int) and size**2 == count:
        return TokenNames("grid", size=size)
    if made.get("crops") is True and count == len(CROPS):
        return TokenNames("crops")
    pieces = path.with_name(f"{stem}{PIECES}")
    return TokenNames("pieces", pieces=_read_pieces(pieces)) if pieces.is_file() else None


@dataclass(frozen=True)
class Maps:
    """Where in the picture of one item its tokens come from.

    Attributes:
        strength: How much of a token shows in every region ``[T, H, W]``, between 0 and 1.
        boxes: What the token was pooled from ``[T, 4]``: top, left, bottom, right, in regions.
    """

    strength: NDArray[np.float32]
    boxes: NDArray[np.int64]

    def take(self, positions: Sequence[int]) -> "Maps":
        """Those of some tokens."""
        return Maps(self.strength[positions], self.boxes[positions])


def read_maps(path: Path, node_id: Hashable, count: int) -> Maps | None:
    """Where the ``count`` tokens of one node come from; None where the file does not know it, or is not there.

    Args:
        path: ``NAME_maps.npz`` with ``ids``, ``maps`` and ``boxes``, as ``data_scripts/attribute_regions.py`` writes it.
        node_id: Raw id.
        count: Tokens of a node.

    Raises:
        ValueError: The maps are of other tokens.
    """
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        found: dict[str, NDArray[Any]] = {name: file[name] for name in ("ids", "maps", "boxes")}
    if found["maps"].shape[1] != count:
        raise ValueError(
            f"{path} has maps of {found['maps'].shape[1]} tokens but the run was trained with {count}; train it again, or put back "
            "the file that was there"
        )
    rows = np.flatnonzero(found["ids"].astype(str) == str(node_id))
    return Maps(found["maps"][rows[0]].astype(np.float32), found["boxes"][rows[0]].astype(np.int64)) if len(rows) else None


def write_pieces(path: Path, ids: Iterable[object], pieces: Iterable[Sequence[str]]) -> None:
    """Writes the word pieces of every item, as :func:`read_tokens` reads them."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "place", "piece"])
        writer.writerows(
            (item, position, piece) for item, row in zip(ids, pieces, strict=True) for position, piece in enumerate(row)
        )


def _read_pieces(path: Path) -> dict[str, str]:
    pieces: dict[str, list[str]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            pieces.setdefault(row["item"], []).append(row["piece"])
    return {item: " ".join(words) for item, words in pieces.items()}


def _json(path: Path) -> dict[str, object]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
