"""Texts of items: what their columns say, in one piece."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from gmmrec.data.encode.encoders import TextEncoder
from gmmrec.data.encode.source import Encoded
from gmmrec.data.errors import DataError, listed, nearest


@runtime_checkable
class Spells(Protocol):
    """An encoder of texts that can say what its tokens stand for; explanations show it."""

    def pieces(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """The first ``count`` pieces of each text, spelled out."""
        ...


@dataclass(frozen=True)
class Texts:
    """A text an item, as :func:`gmmrec.data.encode.extract.extract` reads it.

    Attributes:
        ids: The items.
        texts: What they say; empty where they say nothing.
        encoder: What turns texts into vectors.
        tokens: How many tokens of a text become a token axis; None for one vector a text.

    Raises:
        ValueError: The lists differ in length.
    """

    ids: Sequence[Hashable]
    texts: Sequence[str]
    encoder: TextEncoder
    tokens: int | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.texts):
            raise ValueError(f"there must be a text for every item, but there are {len(self.texts)} for {len(self.ids)} items")

    def settings(self) -> dict[str, object]:
        """What the vectors depend on besides the texts."""
        return {"encoder": self.encoder.name, "tokens": self.tokens}

    def fingerprint(self, row: int) -> str:
        """A text that changes with the text of a row: itself."""
        return self.texts[row]

    def length(self, row: int) -> int:
        """Rows of like length share a batch, so that little of it is padding."""
        return len(self.texts[row])

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Vectors of the texts that say something."""
        missing = {row: "no text" for row in rows if not self.texts[row].strip()}
        present = [row for row in rows if row not in missing]
        if not present:
            return Encoded([], None, None, missing)
        texts = [self.texts[row] for row in present]
        if self.tokens is not None:
            return Encoded(present, *self.encoder.tokens(texts, self.tokens), missing)
        return Encoded(present, self.encoder.vectors(texts), None, missing)


def join_columns(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """What columns say of every row, joined by ``". "``; cells that are empty are left out.

    Raises:
        DataError: A column is not there.

    >>> join_columns(pd.DataFrame({"title": ["Heat", None, " "], "year": [1995.0, 1999.0, None]}), ["title", "year"])
    ['Heat. 1995', '1999', '']
    """
    for column in columns:
        if column not in frame:
            raise DataError(
                f"the table has no column {column!r}{nearest(column, frame.columns)}; its columns are {listed(frame.columns)}"
            )
    spelled = [spell(frame[column]) for column in columns]
    return [". ".join(cell for cell in cells if cell) for cells in zip(*spelled, strict=True)]


def spell(column: "pd.Series[Any]") -> list[str]:
    """Every cell as text; nothing where it is missing, and no ``.0`` behind a whole number.

    >>> spell(pd.Series([7.0, None, 2.5])), spell(pd.Series(["007", " x "]))
    (['7', '', '2.5'], ['007', 'x'])
    """
    cells = ["" if pd.isna(cell) else cell for cell in column.tolist()]
    return [str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip() for cell in cells]
