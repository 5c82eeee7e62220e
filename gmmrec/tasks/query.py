"""What is known when ranking: queries, and the batches made of them."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from gmmrec.typing import NodeType


@dataclass(frozen=True)
class Query:
    """One ranking question a row; ``target`` is the node type that is ranked."""

    target: ClassVar[NodeType] = "item"

    def __len__(self) -> int:
        first: Tensor = getattr(self, fields(self)[0].name)
        return first.shape[0]

    def take(self, index: Tensor | slice) -> Self:
        """The questions at positions ``index``."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self) if getattr(self, f.name) is not None})

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device) for f in fields(self) if getattr(self, f.name) is not None},
        )


@dataclass(frozen=True)
class UserQuery(Query):
    """What will these users like? ``user`` ``[B]`` holds rows of the graph at hand."""

    user: Tensor


@dataclass(frozen=True)
class ContextQuery(Query):
    """What will these users like in this situation?

    ``user`` ``[B]`` holds rows of the graph at hand; ``context`` ``[B, F]`` says what is known of the event (its time, say), None
    where nothing is.
    """

    user: Tensor
    context: Tensor | None = None


@dataclass(frozen=True)
class RatingQuery(Query):
    """How will these users rate items? ``user`` ``[B]`` holds rows of the graph at hand; a score is a predicted rating."""

    user: Tensor


@dataclass(frozen=True)
class HistoryQuery(Query):
    """What will these users take next, after these items?

    ``user`` ``[B]`` holds rows of the graph at hand, and so does ``items`` ``[B, L]``: oldest first, the newest item in the last
    column. Where a history is shorter, ``mask`` ``[B, L]`` is False in front, and what ``items`` says there means nothing. ``time``
    ``[B, L]`` holds seconds since 1970 (int64), or is None where times are not known.
    """

    user: Tensor
    items: Tensor
    mask: Tensor
    time: Tensor | None = None


@dataclass(frozen=True)
class OutfitQuery(Query):
    """What completes these sets of items, for these users?

    ``outfit`` ``[B, L]`` holds rows of the items that are there, in any order, ``outfit_mask`` ``[B, L]`` is True where there is
    one; a set may be empty. ``user`` ``[B]`` holds rows of the graph at hand, -1 for nobody in particular. ``history`` ``[B, L']``
    holds what the user had taken before, laid out as in :class:`HistoryQuery`; it is None, as is its mask, where nothing is known
    of users.
    """

    user: Tensor
    outfit: Tensor
    outfit_mask: Tensor
    history: Tensor | None = None
    history_mask: Tensor | None = None

    def without(self, row: Tensor, column: Tensor) -> "OutfitQuery":
        """Outfits ``[n]`` that lack one of their items each: of outfit ``row`` ``[n]`` the item at ``column`` ``[n]``."""
        part = self.take(row)
        mask = part.outfit_mask.clone()
        mask[torch.arange(len(row), device=row.device), column] = False
        return replace(part, outfit=part.outfit.masked_fill(~mask, 0), outfit_mask=mask)


@dataclass(frozen=True)
class LinkQuery(Query):
    """Which entities stand in these relations to these entities?

    ``head`` ``[B]`` holds rows of entities, ``relation`` ``[B]`` rows of relations, to which their number is added where facts are
    read backwards: ``relation + R`` asks for the heads of facts whose tail is ``head``.
    """

    target: ClassVar[NodeType] = "entity"

    head: Tensor
    relation: Tensor


Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True)
class Batch(Generic[Q]):
    """One training step: questions, an answer each, and things that are no answers.

    Attributes:
        query: ``B`` questions.
        positive: Rows ``[B]``.
        negative: Rows ``[B, K]``.
        rating: What the positive was rated ``[B]`` (float32), or None where that is not asked.
        text: Word ids of what was written about the positive ``[B, T]``, 0 behind the end; None where nothing is known.
        answers: All right answers that are known in training, as pairs ``[n, 2]`` of a position in the batch and a row; None where
            that is not told.
    """

    query: Q
    positive: Tensor
    negative: Tensor
    rating: Tensor | None = None
    text: Tensor | None = None
    answers: Tensor | None = None

    def __len__(self) -> int:
        return self.positive.shape[0]

    @property
    def candidates(self) -> Tensor:
        """Positive first, negatives behind it ``[B, 1 + K]``: one call of ``score`` serves both."""
        return torch.cat([self.positive[:, None], self.negative], dim=1)

    def to(self, device: torch.device | str) -> "Batch[Q]":
        """A copy on another device."""
        moved = {f.name: value.to(device) for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(self, **moved)
