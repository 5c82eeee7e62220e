"""Evaluation tasks as data: rankings of all candidates or of a few, ratings, compatibility of sets, link prediction."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.tasks.query import LinkPredictionQuery, OutfitQuery, Q

Mask: TypeAlias = Literal["train", "train+valid", "none"]
"""Which items of a user are not ranked."""


class EvaluationTask(Protocol):
    """Questions to a model, with their answers."""

    @property
    def query(self) -> Any:
        """The questions: a :class:`~gmmrec.tasks.query.Query`."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Self:
        """The questions at positions ``index`` ``[m]``."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        ...


@dataclass(frozen=True)
class RankingEvaluation(Generic[Q]):
    """``n`` rankings of all candidates; every question has at least one relevant candidate.

    Attributes:
        query: The questions.
        relevant: Relevant candidates by question.
        excluded: Candidates that are not ranked, by question (already known, as a rule).
        masked: What ``excluded`` holds, in words for the report: ``"train"``, ``"train+valid"``, ``"the outfit"`` or ``"none"``.
    """

    query: Q
    relevant: RaggedSets
    excluded: RaggedSets
    masked: str

    def __len__(self) -> int:
        return len(self.relevant)

    def take(self, index: Tensor) -> "RankingEvaluation[Q]":
        """The questions at positions ``index`` ``[m]``."""
        return RankingEvaluation(self.query.take(index), self.relevant.take(index), self.excluded.take(index), self.masked)

    def to(self, device: torch.device | str) -> "RankingEvaluation[Q]":
        """A copy on another device."""
        return RankingEvaluation(self.query.to(device), self.relevant.to(device), self.excluded.to(device), self.masked)


@dataclass(frozen=True)
class CandidateEvaluation(Generic[Q]):
    """``n`` rankings of candidates given with the question: the news shown at a time, the options of a blank.

    Attributes:
        query: The questions.
        candidates: Rows of the candidates, by question.
        label: Whether each candidate is relevant ``[m]`` (bool), in the order of ``candidates.values``.

    Raises:
        ValueError: A question has no relevant candidate, or no other: nothing can be told from it.
    """

    query: Q
    candidates: RaggedLists
    label: Tensor

    def __post_init__(self) -> None:
        relevant = torch.zeros(len(self), dtype=torch.long, device=self.label.device)
        relevant.index_add_(0, self.candidates.groups, self.label.long())
        if not bool(((relevant > 0) & (relevant < self.candidates.counts)).all()):
            raise ValueError("every question needs a relevant candidate and another one; leave out questions with only one kind")

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, index: Tensor) -> "CandidateEvaluation[Q]":
        """The questions at positions ``index`` ``[m]``."""
        positions, _ = self.candidates.positions(index)
        return CandidateEvaluation(self.query.take(index), self.candidates.take(index), self.label[positions])

    def to(self, device: torch.device | str) -> "CandidateEvaluation[Q]":
        """A copy on another device."""
        return CandidateEvaluation(self.query.to(device), self.candidates.to(device), self.label.to(device))


@dataclass(frozen=True)
class RatingEvaluation(Generic[Q]):
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

    def take(self, index: Tensor) -> "RatingEvaluation[Q]":
        """The ratings at positions ``index`` ``[m]``."""
        return RatingEvaluation(self.query.take(index), self.item[index], self.rating[index], self.bounds)

    def to(self, device: torch.device | str) -> "RatingEvaluation[Q]":
        """A copy on another device."""
        return RatingEvaluation(self.query.to(device), self.item.to(device), self.rating.to(device), self.bounds)


@dataclass(frozen=True)
class CompatibilityEvaluation:
    """``n`` sets of items, each put together by somebody, or at random.

    Attributes:
        query: The whole sets, and for whom they are.
        label: Whether each was put together by somebody ``[n]`` (bool).

    Raises:
        ValueError: All labels are the same, so that nothing can be told from the sets; or a set is empty.
    """

    query: OutfitQuery
    label: Tensor

    def __post_init__(self) -> None:
        if not 0 < int(self.label.sum()) < len(self.label):
            raise ValueError(
                f"sets to be judged need real ones and others, but {int(self.label.sum())} of {len(self.label)} are real"
            )
        if not bool(self.query.outfit_mask.any(1).all()):
            raise ValueError("a set to be judged holds no item; leave empty sets out")

    def __len__(self) -> int:
        return self.label.numel()

    def take(self, index: Tensor) -> "CompatibilityEvaluation":
        """The sets at positions ``index`` ``[m]``, which must hold both labels."""
        return CompatibilityEvaluation(self.query.take(index), self.label[index])

    def to(self, device: torch.device | str) -> "CompatibilityEvaluation":
        """A copy on another device."""
        return CompatibilityEvaluation(self.query.to(device), self.label.to(device))


@dataclass(frozen=True)
class LinkPredictionEvaluation:
    """``n`` triples of which one end is to be found among all entities.

    Attributes:
        query: The other end, and the relation.
        answer: The end that is to be found: rows ``[n]``.
        known: All true answers of every question, in any part of the data; those other than ``answer`` are not ranked.
        backwards: Whether the head is asked for ``[n]`` (bool), not the tail.
    """

    query: LinkPredictionQuery
    answer: Tensor
    known: RaggedSets
    backwards: Tensor

    def __len__(self) -> int:
        return self.answer.numel()

    def take(self, index: Tensor) -> "LinkPredictionEvaluation":
        """The questions at positions ``index`` ``[m]``."""
        return LinkPredictionEvaluation(self.query.take(index), self.answer[index], self.known.take(index), self.backwards[index])

    def to(self, device: torch.device | str) -> "LinkPredictionEvaluation":
        """A copy on another device."""
        return LinkPredictionEvaluation(
            self.query.to(device), self.answer.to(device), self.known.to(device), self.backwards.to(device)
        )
