"""What an evaluation asks: queries, the right answers, and the candidates that do not take part."""

from dataclasses import dataclass
from typing import Generic

import torch

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
