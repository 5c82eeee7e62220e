"""Texts of items, joined from their columns."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from gmmrec.data.encode.encoders import TextEncoder
from gmmrec.data.encode.source import Encoded
from gmmrec.errors import DataError, UsageError, did_you_mean, quote_names


@runtime_checkable
class Spells(Protocol):
    """Text encoder that names the word pieces of its tokens, for explanations."""

    def pieces(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Return the first ``count`` word pieces of each text."""
        ...


@dataclass(frozen=True)
class Texts:
    """One text per item, as a source of :func:`gmmrec.data.encode.extract.extract`.

    Attributes:
        ids: Ids of the items.
        texts: Their texts; empty for a missing one.
        encoder: Text encoder.
        tokens: Number of tokens of a text, which become a token axis; None for one vector per text.

    Raises:
        UsageError: The lists differ in length.
    """

    ids: Sequence[Hashable]
    texts: Sequence[str]
    encoder: TextEncoder
    tokens: int | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.texts):
            raise UsageError(f"there must be a text for every item, but there are {len(self.texts)} for {len(self.ids)} items")

    def settings(self) -> dict[str, object]:
        """Return the settings that determine the vectors besides the texts."""
        return {"encoder": self.encoder.name, "tokens": self.tokens}

    def fingerprint(self, row: int) -> str:
        """Return the text of a row itself."""
        return self.texts[row]

    def length(self, row: int) -> int:
        """Return the length of a row; rows of similar length share a batch, to save padding."""
        return len(self.texts[row])

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Return vectors of the texts that are not empty."""
        missing = {row: "no text" for row in rows if not self.texts[row].strip()}
        present = [row for row in rows if row not in missing]
        if not present:
            return Encoded([], None, None, missing)
        texts = [self.texts[row] for row in present]
        if self.tokens is not None:
            return Encoded(present, *self.encoder.tokens(texts, self.tokens), missing)
        return Encoded(present, self.encoder.vectors(texts), None, missing)


def join_columns(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Join columns of every row by ``". "``, without empty cells.

    Raises:
        DataError: A column is missing.

    >>> join_columns(pd.DataFrame({"title": ["Heat", None, " "], "year": [1995.0, 1999.0, None]}), ["title", "year"])
    ['Heat. 1995', '1999', '']
    """
    for column in columns:
        if column not in frame:
            raise DataError(
                f"the table has no column {column!r}{did_you_mean(column, frame.columns)}; "
                f"choose one of {quote_names(frame.columns)}"
            )
    spelled = [spell(frame[column]) for column in columns]
    return [". ".join(cell for cell in cells if cell) for cells in zip(*spelled, strict=True)]


def spell(column: "pd.Series[Any]") -> list[str]:
    """Return every cell as text, empty if missing, and whole numbers without ``.0``.

    >>> spell(pd.Series([7.0, None, 2.5])), spell(pd.Series(["007", " x "]))
    (['7', '', '2.5'], ['007', 'x'])
    """
    cells = ["" if pd.isna(cell) else cell for cell in column.tolist()]
    return [str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip() for cell in cells]
