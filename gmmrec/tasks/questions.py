"""What an evaluation asks: queries, the right answers, and the candidates that do not take part; ratings to be predicted."""

from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from gmmrec.data.ragged import Ragged
from gmmrec.tasks.query import Q


@dataclass(frozen=True)
class Questions(Generic[Q]):
    """``n`` ranking questions; every one has at least one relevant answer.

    Attributes:
        query: The questions.
        relevant: Right answers by question.
        excluded: Candidates that are not ranked, by question (already known, as a rule).
        masked: What ``excluded`` holds, in words for the report: ``"train"`` or ``"train+valid"``.
    """

    query: Q
    relevant: Ragged
    excluded: Ragged
    masked: str

    def __len__(self) -> int:
        return len(self.relevant)

    def take(self, index: torch.Tensor) -> "Questions[Q]":
        """The questions at positions ``index`` ``[m]``."""
        return Questions(self.query.take(index), self.relevant.take(index), self.excluded.take(index), self.masked)


@dataclass(frozen=True)
class Ratings(Generic[Q]):
    """``n`` ratings to be predicted.

    Attributes:
        query: Who rates.
        item: What is rated: rows ``[n]``.
        rating: The true ratings ``[n]`` (float32).
        bounds: The least and the greatest rating of the training part.
    """

    query: Q
    item: Tensor
    rating: Tensor
    bounds: tuple[float, float]

    def __len__(self) -> int:
        return self.item.numel()

    def to(self, device: torch.device | str) -> "Ratings[Q]":
        """A copy on another device."""
        return Ratings(self.query.to(device), self.item.to(device), self.rating.to(device), self.bounds)
