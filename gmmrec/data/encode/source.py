"""Protocol between the inputs of items and the encoding loop."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class Encoded(NamedTuple):
    """Result of one batch.

    Attributes:
        rows: Rows with a value.
        values: Vectors ``[len(rows), D]``, or ``[len(rows), T, D]`` with a token axis; None if no row has a value.
        mask: Mask of the tokens present ``[len(rows), T]``; None for all.
        missing: Reasons for the rows without a value.
    """

    rows: list[int]
    values: Tensor | None
    mask: Tensor | None
    missing: dict[int, str]


class Source(Protocol):
    """Inputs of items: :class:`~gmmrec.data.encode.images.Pictures` or :class:`~gmmrec.data.encode.texts.Texts`."""

    @property
    def ids(self) -> Sequence[Hashable]:
        """Ids of the items; a row is a position in this list."""
        ...

    def settings(self) -> dict[str, object]:
        """Return the settings that determine the values besides the inputs: encoder and token axis."""
        ...

    def fingerprint(self, row: int) -> str:
        """Return a text that changes with the input of a row."""
        ...

    def length(self, row: int) -> int:
        """Return the length of a row; rows of similar length share a batch."""
        ...

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Encode one batch."""
        ...
