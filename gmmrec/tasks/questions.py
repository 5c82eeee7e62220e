"""What an evaluation asks: rankings of all, choices among a few, sets to be judged, ratings to be predicted, ends of facts."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.tasks.query import LinkQuery, OutfitQuery, Q

Mask: TypeAlias = Literal["train", "train+valid", "none"]
"""Which items of a user are not ranked."""


@dataclass(frozen=True)
class Questions(Generic[Q]):
    """``n`` ranking questions; every one has at least one relevant answer.

    Attributes:
        query: The questions.
        relevant: Right answers by question.
        excluded: Candidates that are not ranked, by question (already known, as a rule).
        masked: What ``excluded`` holds, in words for the report: ``"train"``, ``"train+valid"``, ``"the outfit"`` or ``"none"``.
    """

    query: Q
    relevant: RaggedSets
    excluded: RaggedSets
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


@dataclass(frozen=True)
class Choices(Generic[Q]):
    """``n`` questions with candidates of their own: the news that were shown at a time, the answers to a blank.

    Attributes:
        query: The questions.
        candidates: Rows of the candidates, by question.
        right: Whether each candidate was chosen, or is the answer ``[m]`` (bool), in the order of ``candidates.values``.

    Raises:
        ValueError: A question has no right candidate, or no wrong one: nothing can be told from it.
    """

    query: Q
    candidates: RaggedLists
    right: Tensor

    def __post_init__(self) -> None:
        good = torch.zeros(len(self), dtype=torch.long, device=self.right.device)
        good.index_add_(0, self.candidates.groups, self.right.long())
        if not bool(((good > 0) & (good < self.candidates.counts)).all()):
            raise ValueError("every choice needs a right and a wrong candidate; leave the others out")

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, index: Tensor) -> "Choices[Q]":
        """The questions at positions ``index`` ``[m]``."""
        place, _ = self.candidates.positions(index)
        return Choices(self.query.take(index), self.candidates.take(index), self.right[place])

    def to(self, device: torch.device | str) -> "Choices[Q]":
        """A copy on another device."""
        return Choices(self.query.to(device), self.candidates.to(device), self.right.to(device))


@dataclass(frozen=True)
class Sets:
    """``n`` sets of items, each of which was put together by somebody, or by chance.

    Attributes:
        query: The whole sets, and for whom they are.
        real: Which of them are no chance ``[n]`` (bool).

    Raises:
        ValueError: All are real or none is: nothing can be told from them; or a set is empty.
    """

    query: OutfitQuery
    real: Tensor

    def __post_init__(self) -> None:
        if not 0 < int(self.real.sum()) < len(self.real):
            raise ValueError(
                f"sets to be judged need real ones and others, but {int(self.real.sum())} of {len(self.real)} are real"
            )
        if not bool(self.query.outfit_mask.any(1).all()):
            raise ValueError("a set to be judged holds no item; leave empty sets out")

    def __len__(self) -> int:
        return self.real.numel()

    def to(self, device: torch.device | str) -> "Sets":
        """A copy on another device."""
        return Sets(self.query.to(device), self.real.to(device))


@dataclass(frozen=True)
class Links:
    """``n`` facts of which one end is to be found among all entities.

    Attributes:
        query: The other end, and the relation.
        answer: The end that is to be found: rows ``[n]``.
        known: All right answers of every question, in any part of the data; those other than ``answer`` are not ranked.
        backwards: Whether the head is asked for ``[n]`` (bool), not the tail.
    """

    query: LinkQuery
    answer: Tensor
    known: RaggedSets
    backwards: Tensor

    def __len__(self) -> int:
        return self.answer.numel()

    def take(self, index: Tensor) -> "Links":
        """The questions at positions ``index`` ``[m]``."""
        return Links(self.query.take(index), self.answer[index], self.known.take(index), self.backwards[index])

    def to(self, device: torch.device | str) -> "Links":
        """A copy on another device."""
        return Links(self.query.to(device), self.answer.to(device), self.known.to(device), self.backwards.to(device))


Exam: TypeAlias = Questions[Any] | Ratings[Any] | Choices[Any] | Sets | Links
