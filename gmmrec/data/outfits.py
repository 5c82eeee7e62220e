"""Outfits: sets of items that were worn, bought or shown together."""

from dataclasses import dataclass

from torch import Tensor

from gmmrec.data.ragged import RaggedLists


@dataclass(frozen=True)
class Blanks:
    """Fill-in-the-blank questions: an outfit without an item, and candidates for its place.

    Attributes:
        items: The items that are left, by question.
        candidates: What may stand in the blank, by question.
        right: Whether each candidate is the answer (bool), in the order of ``candidates.values``.
    """

    items: RaggedLists
    candidates: RaggedLists
    right: Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Compatibilities:
    """Sets of items, each said to be a real outfit or not.

    Attributes:
        items: The items of every set.
        real: Whether each is a real outfit ``[n]`` (bool).
    """

    items: RaggedLists
    real: Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Outfits:
    """``N`` outfits.

    Attributes:
        items: The items of every outfit, in their order.
        part: Part of each outfit ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        user: For whom each was made: rows ``[N]``, -1 for nobody in particular; None where that is not known of any.
        history: What the user had clicked before, oldest first; None where that is not known.
        category: Kind of every item of the data set ``[I]``, numbered from 0, -1 where it is not known; None where there are none.
        text: Word ids of what was written about each outfit ``[N, T]``, 0 behind the end; None where nothing was.
        blanks: Questions that come with the data, all about the test part; None where they are to be drawn.
        compatibilities: The same for whole outfits.

    Raises:
        ValueError: Columns differ in length.
    """

    items: RaggedLists
    part: Tensor
    user: Tensor | None = None
    history: RaggedLists | None = None
    category: Tensor | None = None
    text: Tensor | None = None
    blanks: Blanks | None = None
    compatibilities: Compatibilities | None = None

    def __post_init__(self) -> None:
        for name in ("part", "user", "history", "text"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(f"there are {len(self)} outfits, but {len(column)} values of {name!r}")

    def __len__(self) -> int:
        return len(self.items)
