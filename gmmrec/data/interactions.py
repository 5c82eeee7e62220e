"""The interaction log as columns of row numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gmmrec.errors import UsageError


@dataclass(frozen=True)
class Interactions:
    """``E`` interactions of users with items.

    Attributes:
        user: Rows of users ``[E]`` (int64).
        item: Rows of items ``[E]`` (int64).
        time: Seconds since 1970 ``[E]`` (int64), or None.
        weight: Strength or rating ``[E]`` (float32), or None.
        review: Row of the review in the data set's reviews ``[E]`` (int64), -1 for none; or None.

    Raises:
        UsageError: Columns differ in length or hold negative rows.
    """

    user: Tensor
    item: Tensor
    time: Tensor | None = None
    weight: Tensor | None = None
    review: Tensor | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if column.shape != self.user.shape:
                raise UsageError(f"column {name!r} has {tuple(column.shape)} values, but 'user' has {tuple(self.user.shape)}")
        if len(self) and min(int(self.user.min()), int(self.item.min())) < 0:
            raise UsageError("interactions hold a negative row; look unknown ids up with Vocabulary.find and drop them first")

    def __len__(self) -> int:
        return self.user.numel()

    def columns(self) -> dict[str, Tensor]:
        """Return the columns that are present, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def take(self, index: Tensor | slice) -> "Interactions":
        """Return the interactions at positions ``[n]`` or under a boolean mask ``[E]``."""
        return Interactions(**{name: column[index] for name, column in self.columns().items()})

    def distinct(self) -> "Interactions":
        """Return the first interaction of every user-item pair, sorted by user, then item.

        >>> Interactions(torch.tensor([1, 0, 1]), torch.tensor([2, 5, 2]), weight=torch.tensor([3.0, 4.0, 5.0])).distinct().weight
        tensor([4., 3.])
        """
        width = int(self.item.max()) + 1 if len(self) else 1
        keys, pair = torch.unique(self.user * width + self.item, return_inverse=True)
        position = torch.arange(len(self), device=keys.device)
        return self.take(torch.full_like(keys, len(self)).scatter_reduce_(0, pair, position, "amin"))

    def to(self, device: torch.device | str) -> "Interactions":
        """Return a copy on another device."""
        return replace(self, **{name: column.to(device) for name, column in self.columns().items()})


def joined(logs: Sequence[Interactions]) -> Interactions:
    """Concatenate logs in order; a column missing from one of them is dropped.

    >>> a, b = (Interactions(torch.tensor([u]), torch.tensor([4]), time=torch.tensor([u])) for u in (0, 1))
    >>> joined([a, b]).time
    tensor([0, 1])
    """
    names = set.intersection(*(set(log.columns()) for log in logs))
    return Interactions(**{name: torch.cat([getattr(log, name) for log in logs]) for name in names})
