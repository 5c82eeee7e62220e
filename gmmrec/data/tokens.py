"""Names of the tokens of a modality: regions of an image, crops, words, attributes."""

import csv
import gzip
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from gmmrec.data.unread import note_file
from gmmrec.errors import DataError, UsageError
from gmmrec.safety.arrays import load_arrays
from gmmrec.safety.documents import read_json
from gmmrec.safety.streams import open_text

TokenKind: TypeAlias = Literal["grid", "crops", "names", "pieces", "numbered"]

PIECES = "_pieces.csv.gz"
"""Ending of a file of word pieces, after the name of the modality."""

CROPS = ("top left", "top right", "bottom left", "bottom right", "centre")
"""Names of the five crops, in their order."""


@dataclass(frozen=True)
class TokenNames:
    """Names of the tokens of one modality.

    Attributes:
        kind: ``"grid"``: a grid of regions, row by row from the top left; ``"crops"``: five crops; ``"names"``: tokens with the
            same names for every node; ``"pieces"``: word pieces of a text; ``"numbered"``: any other tokens.
        size: Number of regions along each side of a grid.
        names: Names of the tokens if they are the same for all nodes.
        pieces: Word pieces by raw id, spelled as text and separated by spaces.
    """

    kind: TokenKind
    size: int = 0
    names: Sequence[str] = ()
    pieces: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(TokenKind) or type(self.size) is not int or self.size < 0:
            raise UsageError(
                f"tokens must be of a kind such as 'names', with a size of 0 or more, but are {self.kind!r}, {self.size!r}"
            )
        if not isinstance(self.names, list | tuple) or not all(isinstance(name, str) for name in self.names):
            raise UsageError(f"names of tokens must be texts, but are {str(self.names)[:60]}")
        pieces = self.pieces.items() if isinstance(self.pieces, Mapping) else [(0, 0)]
        if not all(isinstance(key, str) and isinstance(text, str) for key, text in pieces):
            raise UsageError("word pieces must be a text for each id; write the file of pieces again")
        object.__setattr__(self, "names", tuple(self.names))

    def labels(self, node_id: object, count: int) -> list[str]:
        """Return names of the first ``count`` tokens of a node; numbers from 1 for unnamed ones.

        >>> TokenNames("grid", size=2).labels("dress", 4)
        ['row 1, column 1', 'row 1, column 2', 'row 2, column 1', 'row 2, column 2']
        >>> TokenNames("pieces", pieces={"7": "black tights"}).labels(7, 3)
        ['black', 'tights', '3']
        """
        names: Sequence[str] = self.names
        if self.kind == "grid":
            shown = range(min(count, self.size**2))
            names = [f"row {position // self.size + 1}, column {position % self.size + 1}" for position in shown]
        elif self.kind == "crops":
            names = CROPS
        elif self.kind == "pieces":
            names = self.pieces.get(str(node_id), "").split()
        return [names[position] if position < len(names) else str(position + 1) for position in range(count)]


def read_tokens(path: Path, count: int) -> TokenNames | None:
    """Read names of the ``count`` tokens from the files beside a feature file; None without such files.

    These are ``NAME.json`` with the list ``names``, ``NAME_feat.json`` written by ``gmmrec data features``, and
    ``NAME_pieces.csv.gz`` with the columns item, place (position from 0) and piece.

    Args:
        path: Path of ``NAME_feat.npz``.
        count: Number of tokens per node.
    """
    stem = path.name.rsplit("_feat", 1)[0]
    names = _json(path.with_name(f"{stem}.json")).get("names")
    if isinstance(names, list) and len(names) == count:
        return TokenNames("names", names=tuple(map(str, names)))
    settings = _json(path.with_suffix(".json"))
    size = settings.get("regions")
    if isinstance(size, int) and size**2 == count:
        return TokenNames("grid", size=size)
    if settings.get("crops") is True and count == len(CROPS):
        return TokenNames("crops")
    pieces = path.with_name(f"{stem}{PIECES}")
    return TokenNames("pieces", pieces=_read_pieces(pieces)) if pieces.is_file() else None


@dataclass(frozen=True)
class Maps:
    """Location of tokens in the image of one item.

    Attributes:
        strength: Activation of each token in every region ``[T, H, W]``, between 0 and 1.
        boxes: Box each token was pooled from ``[T, 4]``: top, left, bottom, right, in regions.
    """

    strength: NDArray[np.float32]
    boxes: NDArray[np.int64]

    def take(self, positions: Sequence[int]) -> "Maps":
        """Return the maps of some tokens."""
        return Maps(self.strength[positions], self.boxes[positions])


def read_maps(path: Path, node_id: Hashable, count: int) -> Maps | None:
    """Read the maps of the ``count`` tokens of one node; None if the file is missing or lacks the node.

    Args:
        path: ``NAME_maps.npz`` with ``ids``, ``maps`` and ``boxes``, as written by ``data_scripts/attribute_regions.py``.
        node_id: Raw id of the node.
        count: Number of tokens per node.

    Raises:
        UsageError: The file has maps of another number of tokens.
    """
    if not path.is_file():
        return None
    arrays = load_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    size = shapes.get("maps", ())
    is_whole = len(size) == 4 and shapes.get("ids") == size[:1] and shapes.get("boxes") == (*size[:2], 4)
    if not is_whole or arrays["maps"].dtype.kind != "f" or arrays["boxes"].dtype.kind not in "iu":
        raise UsageError(
            f"{path} must hold 'ids' [N], 'maps' [N, T, H, W] and 'boxes' [N, T, 4], but holds {shapes}; write it again"
        )
    if arrays["maps"].shape[1] != count:
        raise UsageError(
            f"{path} has maps of {arrays['maps'].shape[1]} tokens but the run was trained with {count}; train it again, or restore "
            "the original file"
        )
    rows = np.flatnonzero(arrays["ids"].astype(str) == str(node_id))
    return Maps(arrays["maps"][rows[0]].astype(np.float32), arrays["boxes"][rows[0]].astype(np.int64)) if len(rows) else None


def write_pieces(path: Path, ids: Iterable[object], pieces: Iterable[Sequence[str]]) -> None:
    """Write the word pieces of every item, in the format of :func:`read_tokens`."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "place", "piece"])
        writer.writerows(
            (item, position, piece) for item, row in zip(ids, pieces, strict=True) for position, piece in enumerate(row)
        )


def _read_pieces(path: Path) -> dict[str, str]:
    note_file(path)
    pieces: dict[str, list[str]] = {}
    try:
        with open_text(path, newline="") as file:
            for row in csv.DictReader(file):
                pieces.setdefault(row["item"], []).append(row["piece"])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DataError(f"{path.name} is damaged ({error}); extract the features again, or remove it") from None
    return {item: " ".join(words) for item, words in pieces.items()}


def _json(path: Path) -> dict[str, object]:
    note_file(path)
    content = read_json(path, "remove it, or write it again") if path.is_file() else {}
    return content if isinstance(content, dict) else {}
