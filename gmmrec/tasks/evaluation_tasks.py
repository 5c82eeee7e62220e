"""Evaluation tasks as data: rankings of all or of given candidates, ratings, compatibility, link prediction."""

from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.errors import UsageError
from gmmrec.tasks.query import LinkPredictionQuery, OutfitQuery, Q

Mask: TypeAlias = Literal["train", "train+valid", "none"]
"""Items of a user that are excluded from ranking, by split part."""


class EvaluationTask(Protocol):
    """Queries to a model, with their labels."""

    @property
    def query(self) -> Any:
        """Queries of the task: a :class:`~gmmrec.tasks.query.Query`."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Self:
        """Return the queries at positions ``index`` ``[m]``."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on another device."""
        ...


@dataclass(frozen=True)
class RankingEvaluation(Generic[Q]):
    """``n`` rankings of all candidates; every query has at least one relevant candidate.

    Attributes:
        query: ``n`` queries.
        relevant: Relevant candidates per query.
        excluded: Candidates excluded from ranking, per query (usually those already known).
        masked: Description of ``excluded`` for the report: ``"train"``, ``"train+valid"``, ``"the outfit"`` or ``"none"``.
        id_order: Position of every candidate in the order of raw ids ``[I]``, which lists that are shown fall back on; by default
            its row.
    """

    query: Q
    relevant: RaggedSets
    excluded: RaggedSets
    masked: str
    id_order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.relevant)

    def take(self, index: Tensor) -> "RankingEvaluation[Q]":
        """Return the queries at positions ``index`` ``[m]``."""
        return replace(self, query=self.query.take(index), relevant=self.relevant.take(index), excluded=self.excluded.take(index))

    def to(self, device: torch.device | str) -> "RankingEvaluation[Q]":
        """Return a copy on another device."""
        id_order = None if self.id_order is None else self.id_order.to(device)
        return RankingEvaluation(self.query.to(device), self.relevant.to(device), self.excluded.to(device), self.masked, id_order)


@dataclass(frozen=True)
class CandidateEvaluation(Generic[Q]):
    """``n`` rankings of candidates given per query: the news shown in an impression, the options of a blank.

    Attributes:
        query: ``n`` queries.
        candidates: Rows of the candidates, per query.
        label: Whether each candidate is relevant ``[m]`` (bool), in the order of ``candidates.values``.

    Raises:
        UsageError: A query has no relevant candidate, or only relevant ones.
    """

    query: Q
    candidates: RaggedLists
    label: Tensor

    def __post_init__(self) -> None:
        relevant = torch.zeros(len(self), dtype=torch.long, device=self.label.device)
        relevant.index_add_(0, self.candidates.groups, self.label.long())
        if not bool(((relevant > 0) & (relevant < self.candidates.counts)).all()):
            raise UsageError("every query needs a relevant candidate and another one; leave out queries with only one kind")

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, index: Tensor) -> "CandidateEvaluation[Q]":
        """Return the queries at positions ``index`` ``[m]``."""
        positions, _ = self.candidates.positions(index)
        return CandidateEvaluation(self.query.take(index), self.candidates.take(index), self.label[positions])

    def to(self, device: torch.device | str) -> "CandidateEvaluation[Q]":
        """Return a copy on another device."""
        return CandidateEvaluation(self.query.to(device), self.candidates.to(device), self.label.to(device))


@dataclass(frozen=True)
class RatingEvaluation(Generic[Q]):
    """``n`` ratings to predict.

    Attributes:
        query: Users who rate.
        item: Rated items: rows ``[n]``.
        rating: True ratings ``[n]`` (float32).
        bounds: Lowest and highest rating of the training part.
    """

    query: Q
    item: Tensor
    rating: Tensor
    bounds: tuple[float, float]

    def __len__(self) -> int:
        return self.item.numel()

    def take(self, index: Tensor) -> "RatingEvaluation[Q]":
        """Return the ratings at positions ``index`` ``[m]``."""
        return RatingEvaluation(self.query.take(index), self.item[index], self.rating[index], self.bounds)

    def to(self, device: torch.device | str) -> "RatingEvaluation[Q]":
        """Return a copy on another device."""
        return RatingEvaluation(self.query.to(device), self.item.to(device), self.rating.to(device), self.bounds)


@dataclass(frozen=True)
class CompatibilityEvaluation:
    """``n`` outfits, compatible ones and others.

    Attributes:
        query: Whole outfits and their users.
        label: Whether each outfit is compatible ``[n]`` (bool).

    Raises:
        UsageError: All labels are the same, or an outfit is empty.
    """

    query: OutfitQuery
    label: Tensor

    def __post_init__(self) -> None:
        if not 0 < int(self.label.sum()) < len(self.label):
            raise UsageError(
                f"expected compatible outfits and others, but {int(self.label.sum())} of {len(self.label)} are compatible"
            )
        if not bool(self.query.outfit_mask.any(1).all()):
            raise UsageError("an outfit has no items; leave empty outfits out")

    def __len__(self) -> int:
        return self.label.numel()

    def take(self, index: Tensor) -> "CompatibilityEvaluation":
        """Return the outfits at positions ``index`` ``[m]``, which must include both labels."""
        return CompatibilityEvaluation(self.query.take(index), self.label[index])

    def to(self, device: torch.device | str) -> "CompatibilityEvaluation":
        """Return a copy on another device."""
        return CompatibilityEvaluation(self.query.to(device), self.label.to(device))


@dataclass(frozen=True)
class LinkPredictionEvaluation:
    """``n`` triples, one end of which is to be predicted among all entities.

    Attributes:
        query: Given ends and relations.
        answer: Ends to predict: rows ``[n]``.
        known: All true answers per query, from all split parts; those other than ``answer`` are not ranked.
        backwards: Whether the head is predicted rather than the tail ``[n]`` (bool).
    """

    query: LinkPredictionQuery
    answer: Tensor
    known: RaggedSets
    backwards: Tensor

    def __len__(self) -> int:
        return self.answer.numel()

    def take(self, index: Tensor) -> "LinkPredictionEvaluation":
        """Return the queries at positions ``index`` ``[m]``."""
        return LinkPredictionEvaluation(self.query.take(index), self.answer[index], self.known.take(index), self.backwards[index])

    def to(self, device: torch.device | str) -> "LinkPredictionEvaluation":
        """Return a copy on another device."""
        return LinkPredictionEvaluation(
            self.query.to(device), self.answer.to(device), self.known.to(device), self.backwards.to(device)
        )
