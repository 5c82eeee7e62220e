"""Outfits: sets of items worn, bought or shown together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gmmrec.data.ragged import RaggedLists
from gmmrec.errors import UsageError
from gmmrec.renamed import refuse_old_names


@dataclass(frozen=True)
class FillInTheBlank:
    """Fill-in-the-blank tasks: an outfit without one item, and candidates for the blank.

    Attributes:
        items: Remaining items of each outfit.
        candidates: Candidates for each blank.
        relevant: Mask of the relevant candidates (bool), in the order of ``candidates.values``.
    """

    items: RaggedLists
    candidates: RaggedLists
    relevant: Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Compatibilities:
    """Compatibility tasks: sets of items, labelled as outfits or not.

    Attributes:
        items: Items of each set.
        label: Labels ``[n]`` (bool), True for an outfit.
    """

    items: RaggedLists
    label: Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Outfits:
    """``N`` outfits.

    Attributes:
        items: Items of every outfit, in order.
        part: Part of each outfit ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        user: Row of the user each was made for ``[N]``, -1 for none; None if unknown.
        history: Items the user had clicked before, oldest first; None if unknown.
        category: Category of every item of the data set ``[I]``, numbered from 0, -1 if unknown; None without categories.
        text: Word ids of the text of each outfit ``[N, T]``, right padded with 0; None without texts.
        fill_in_the_blank: Given fill-in-the-blank tasks, all on the test part; None if they are to be drawn.
        compatibilities: Given compatibility tasks, likewise.

    Raises:
        UsageError: Columns differ in length.
    """

    items: RaggedLists
    part: Tensor
    user: Tensor | None = None
    history: RaggedLists | None = None
    category: Tensor | None = None
    text: Tensor | None = None
    fill_in_the_blank: FillInTheBlank | None = None
    compatibilities: Compatibilities | None = None

    def __post_init__(self) -> None:
        for name in ("part", "user", "history", "text"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise UsageError(f"there are {len(self)} outfits, but {len(column)} values of {name!r}")

    def __len__(self) -> int:
        return len(self.items)


if not TYPE_CHECKING:
    __getattr__ = refuse_old_names(__name__)
