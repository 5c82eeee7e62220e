"""What can be encoded: the protocol between the inputs of items and the loop over them."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class Encoded(NamedTuple):
    """What a batch gave.

    Attributes:
        rows: Those that have a value.
        values: ``[len(rows), D]``, or ``[len(rows), T, D]`` with a token axis; None where no row has one.
        mask: Which tokens exist ``[len(rows), T]``; None for all.
        missing: Why the other rows have none.
    """

    rows: list[int]
    values: Tensor | None
    mask: Tensor | None
    missing: dict[int, str]


class Source(Protocol):
    """Items with something to encode: :class:`~gmmrec.data.encode.images.Pictures`, :class:`~gmmrec.data.encode.texts.Texts`."""

    @property
    def ids(self) -> Sequence[Hashable]:
        """The items; a row is a position in this list."""
        ...

    def settings(self) -> dict[str, object]:
        """What the values depend on besides the inputs: encoder and token axis."""
        ...

    def fingerprint(self, row: int) -> str:
        """A text that changes with the input of a row."""
        ...

    def length(self, row: int) -> int:
        """Rows of like length share a batch."""
        ...

    def encode(self, rows: Sequence[int]) -> Encoded:
        """Encodes one batch."""
        ...
