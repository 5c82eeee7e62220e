"""The interaction log as columns of row numbers."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interactions:
    """Who touched what, when and how much.

    Attributes:
        user: Rows ``[E]`` (int64).
        item: Rows ``[E]`` (int64).
        time: Seconds since 1970 ``[E]`` (int64), or None.
        weight: Strength or rating ``[E]`` (float32), or None.

    Raises:
        ValueError: Columns differ in length or hold negative rows.
    """

    user: Tensor
    item: Tensor
    time: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if column.shape != self.user.shape:
                raise ValueError(f"column {name!r} has {tuple(column.shape)} values, but 'user' has {tuple(self.user.shape)}")
        if len(self) and min(int(self.user.min()), int(self.item.min())) < 0:
            raise ValueError("interactions hold a negative row; look unknown ids up with Vocabulary.find and drop them first")

    def __len__(self) -> int:
        return self.user.numel()

    def columns(self) -> dict[str, Tensor]:
        """The columns that are present, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def take(self, index: Tensor) -> "Interactions":
        """The interactions at positions ``[n]`` or under a boolean mask ``[E]``."""
        return Interactions(**{name: column[index] for name, column in self.columns().items()})

    def to(self, device: torch.device | str) -> "Interactions":
        """A copy on another device."""
        return replace(self, **{name: column.to(device) for name, column in self.columns().items()})
