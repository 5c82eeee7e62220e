"""Impressions: items shown to a user at one time, and the clicks on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gmmrec.data.parts import SplitPart
from gmmrec.data.ragged import RaggedLists
from gmmrec.errors import UsageError


@dataclass(frozen=True)
class Impressions:
    """``N`` impressions.

    Attributes:
        user: Rows of the users ``[N]``.
        shown: Items shown, in their order.
        clicked: Mask of the clicked ones (bool), in the order of ``shown.values``.
        history: Items the user had clicked before, oldest first.
        part: Part of each impression ``[N]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        time: Seconds since 1970 ``[N]`` (int64), or None.
        history_time: Time of every click of the histories, in the order of ``history.values``, or None.

    Raises:
        UsageError: Columns differ in length.
    """

    user: Tensor
    shown: RaggedLists
    clicked: Tensor
    history: RaggedLists
    part: Tensor
    time: Tensor | None = None
    history_time: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {"shown": len(self.shown), "history": len(self.history), "part": len(self.part)}
        sizes |= {} if self.time is None else {"time": len(self.time)}
        for name, size in sizes.items():
            if size != len(self):
                raise UsageError(f"impressions have {len(self)} users, but {size} values of {name!r}")
        if self.clicked.shape != self.shown.values.shape:
            raise UsageError(f"{self.shown.values.numel()} items were shown, but there are {self.clicked.numel()} click labels")
        if self.history_time is not None and self.history_time.shape != self.history.values.shape:
            raise UsageError(f"histories hold {self.history.values.numel()} clicks, but {self.history_time.numel()} times")

    def __len__(self) -> int:
        return self.user.numel()

    def of_part(self, part: SplitPart | str) -> Tensor:
        """Return the mask of the impressions of a part ``[N]``."""
        return self.part == SplitPart(part).code

    def telling(self, part: SplitPart | str) -> Tensor:
        """Return positions of the impressions of a part with both clicked and unclicked items."""
        clicks = torch.zeros_like(self.user).index_add_(0, self.shown.groups, self.clicked.long())
        return torch.nonzero(self.of_part(part) & (clicks > 0) & (clicks < self.shown.counts)).flatten()

    def take(self, index: Tensor) -> "Impressions":
        """Return the impressions at positions ``[n]``."""
        shown, _ = self.shown.positions(index)
        history, _ = self.history.positions(index)
        return Impressions(
            self.user[index],
            self.shown.take(index),
            self.clicked[shown],
            self.history.take(index),
            self.part[index],
            None if self.time is None else self.time[index],
            None if self.history_time is None else self.history_time[history],
        )
