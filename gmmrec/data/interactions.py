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
        time: Seconds since 1970 ``[E]`` (int64), or None without dates.
        weight: Strength or rating ``[E]`` (float32), or None.
        review: Row of the review in the data set's reviews ``[E]`` (int64), -1 for none; or None.
        nanosecond: Nanoseconds after ``time`` ``[E]`` (int64), or None where all times are whole seconds.
        order: Plain numbers that give the order of events without dates ``[E]`` (int64): steps, weeks, positions; or None.

    Raises:
        UsageError: Columns differ in length, hold negative rows or times that are not whole, or both dates and an order are given.
    """

    user: Tensor
    item: Tensor
    time: Tensor | None = None
    weight: Tensor | None = None
    review: Tensor | None = None
    nanosecond: Tensor | None = None
    order: Tensor | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if column.shape != self.user.shape:
                raise UsageError(f"column {name!r} has {tuple(column.shape)} values, but 'user' has {tuple(self.user.shape)}")
        if len(self) and min(int(self.user.min()), int(self.item.min())) < 0:
            raise UsageError("interactions hold a negative row; look unknown ids up with Vocabulary.find and drop them first")
        for name in ("time", "nanosecond", "order"):
            column = getattr(self, name)
            if column is not None and column.is_floating_point():
                raise UsageError(f"{name!r} is {column.dtype}, but must be int64; give fractions of seconds as 'nanosecond'")
        if self.order is not None and self.time is not None:
            raise UsageError("interactions have both times and an order; give one of them")
        if self.nanosecond is not None and self.time is None:
            raise UsageError("interactions have nanoseconds, but no times that they follow; give both")

    def __len__(self) -> int:
        return self.user.numel()

    @property
    def moment(self) -> Tensor | None:
        """Numbers in the order of time ``[E]`` (int64), with all known digits; None without times and order.

        >>> row = torch.tensor([0, 0])
        >>> Interactions(row, row, torch.tensor([7, 7]), nanosecond=torch.tensor([5, 0])).moment
        tensor([7000000005, 7000000000])
        """
        if self.time is None or self.nanosecond is None:
            return self.order if self.time is None else self.time
        return self.time * 1_000_000_000 + self.nanosecond

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
    if any(log.nanosecond is not None for log in logs) and all(log.time is not None for log in logs):
        logs = [replace(log, nanosecond=torch.zeros_like(log.user)) if log.nanosecond is None else log for log in logs]
    names = set.intersection(*(set(log.columns()) for log in logs))
    names -= set() if "time" in names else {"nanosecond"}
    return Interactions(**{name: torch.cat([getattr(log, name) for log in logs]) for name in names})
