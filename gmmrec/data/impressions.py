"""Impressions: what people were shown at a time, and which of it they clicked."""

from dataclasses import dataclass

from torch import Tensor

from gmmrec.data.lists import Lists


@dataclass(frozen=True)
class Impressions:
    """``N`` impressions.

    Attributes:
        user: Who saw it: rows ``[N]``.
        shown: The items that were shown, in their order.
        clicked: Whether each was clicked (bool), in the order of ``shown.values``.
        history: What the user had clicked before, oldest first.
        part: 0 train, 1 valid, 2 test ``[N]``.
        time: Seconds since 1970 ``[N]`` (int64), or None.

    Raises:
        ValueError: Columns differ in length.
    """

    user: Tensor
    shown: Lists
    clicked: Tensor
    history: Lists
    part: Tensor
    time: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {"shown": len(self.shown), "history": len(self.history), "part": len(self.part)}
        sizes |= {} if self.time is None else {"time": len(self.time)}
        for name, size in sizes.items():
            if size != len(self):
                raise ValueError(f"impressions have {len(self)} users, but {size} values of {name!r}")
        if self.clicked.shape != self.shown.values.shape:
            raise ValueError(f"{self.shown.values.numel()} items were shown, but {self.clicked.numel()} clicks are known")

    def __len__(self) -> int:
        return self.user.numel()

    def take(self, index: Tensor) -> "Impressions":
        """The impressions at positions ``[n]``."""
        place, _ = self.shown.places(index)
        time = None if self.time is None else self.time[index]
        shown, history = self.shown.take(index), self.history.take(index)
        return Impressions(self.user[index], shown, self.clicked[place], history, self.part[index], time)
