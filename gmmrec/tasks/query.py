"""What is known when ranking: queries, and the batches made of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from gmmrec.typing import NodeType


@dataclass(frozen=True)
class Query:
    """One ranking question a row; ``target`` is the node type that is ranked.

    Every class says how it is asked: ``for_users``, ``for_outfits`` and ``for_links`` build a query, or say in one sentence what
    a model asked with this class needs instead.
    """

    target: ClassVar[NodeType] = "item"
    ranks_for_users: ClassVar[bool] = False
    """Whether users alone make a question, and scores mean nothing but an order: what members of an ensemble need."""

    def __len__(self) -> int:
        first: Tensor = getattr(self, fields(self)[0].name)
        return first.shape[0]

    @property
    def users(self) -> Tensor | None:
        """Rows of the users who ask ``[B]``, -1 for nobody in particular; None where users play no part."""
        return None

    @property
    def identity(self) -> Tensor:
        """Numbers that identify the questions ``[B]``: the users' rows, or positions where users play no part."""
        return torch.arange(len(self)) if self.users is None else self.users

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """The question what users ``[B]`` like.

        Args:
            user: Rows of the graph at hand.
            history: Returns what users had taken before; called where that is part of the question.

        Raises:
            ValueError: Users alone are no such question.
        """
        raise ValueError(f"a model asked with {cls.__name__} needs more than users")

    @classmethod
    def for_outfits(
        cls, user: Tensor, outfit: Tensor, outfit_mask: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None
    ) -> "OutfitQuery":
        """The question what completes outfits ``[B, L]`` for users ``[B]``; see :class:`OutfitQuery`.

        Raises:
            ValueError: Outfits are no such question.
        """
        raise ValueError("this model ranks items and completes no outfits; take a run of one that does, such as pog")

    @classmethod
    def for_links(cls, head: Tensor, relation: Tensor) -> "LinkPredictionQuery":
        """The question which entities stand in relations ``[B]`` to entities ``[B]``; see :class:`LinkPredictionQuery`.

        Raises:
            ValueError: Relations are no such question.
        """
        raise ValueError("this model completes no facts; take a run of one that does, such as mkgformer")

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
class PersonalQuery(Query):
    """A question asked by users: ``user`` ``[B]`` holds rows of the graph at hand."""

    user: Tensor

    @property
    def users(self) -> Tensor:
        """Rows of the users who ask ``[B]``."""
        return self.user

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """The question what users ``[B]`` like; what else a query may hold, such as a situation, is left open."""
        return cls(user)


@dataclass(frozen=True)
class UserQuery(PersonalQuery):
    """What will these users like? ``user`` ``[B]`` holds rows of the graph at hand."""

    ranks_for_users: ClassVar[bool] = True


@dataclass(frozen=True)
class ContextQuery(PersonalQuery):
    """What will these users like in this situation?

    ``user`` ``[B]`` holds rows of the graph at hand; ``context`` ``[B, F]`` says what is known of the event (its time, say), None
    where nothing is.
    """

    ranks_for_users: ClassVar[bool] = True
    context: Tensor | None = None


@dataclass(frozen=True)
class RatingQuery(PersonalQuery):
    """How will these users rate items? ``user`` ``[B]`` holds rows of the graph at hand; a score is a predicted rating."""


@dataclass(frozen=True)
class HistoryQuery(PersonalQuery):
    """What will these users take next, after these items?

    ``user`` ``[B]`` holds rows of the graph at hand, and so does ``items`` ``[B, L]``: oldest first, the newest item in the last
    column. Where a history is shorter, ``mask`` ``[B, L]`` is False in front, and what ``items`` says there means nothing. ``time``
    ``[B, L]`` holds seconds since 1970 (int64), or is None where times are not known.
    """

    items: Tensor
    mask: Tensor
    time: Tensor | None = None

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "HistoryQuery":
        """The question what users ``[B]`` take next, after what ``history`` returns for them.

        Raises:
            ValueError: No histories are given.
        """
        if history is None:
            raise ValueError("this model needs what users had taken before; give their histories")
        return history(user)


@dataclass(frozen=True)
class OutfitQuery(PersonalQuery):
    """What completes these sets of items, for these users?

    ``outfit`` ``[B, L]`` holds rows of the items that are there, in any order, ``outfit_mask`` ``[B, L]`` is True where there is
    one; a set may be empty. ``user`` ``[B]`` holds rows of the graph at hand, -1 for nobody in particular. ``history`` ``[B, L']``
    holds what the user had taken before, laid out as in :class:`HistoryQuery`; it is None, as is its mask, where nothing is known
    of users.
    """

    outfit: Tensor
    outfit_mask: Tensor
    history: Tensor | None = None
    history_mask: Tensor | None = None

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Users alone are no question here."""
        raise ValueError("this model completes outfits and needs the items that are there; ask it with gmmrec complete")

    @classmethod
    def for_outfits(
        cls, user: Tensor, outfit: Tensor, outfit_mask: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None
    ) -> "OutfitQuery":
        """The question what completes outfits ``[B, L]`` for users ``[B]``, with what ``history`` returns for these."""
        past = None if history is None else history(user)
        return cls(user, outfit, outfit_mask) if past is None else cls(user, outfit, outfit_mask, past.items, past.mask)

    def without(self, row: Tensor, column: Tensor) -> "OutfitQuery":
        """Outfits ``[n]`` that lack one of their items each: of outfit ``row`` ``[n]`` the item at ``column`` ``[n]``."""
        part = self.take(row)
        mask = part.outfit_mask.clone()
        mask[torch.arange(len(row), device=row.device), column] = False
        return replace(part, outfit=part.outfit.masked_fill(~mask, 0), outfit_mask=mask)


@dataclass(frozen=True)
class LinkPredictionQuery(Query):
    """Which entities stand in these relations to these entities?

    ``head`` ``[B]`` holds rows of entities, ``relation`` ``[B]`` rows of relations, to which their number is added where facts are
    read backwards: ``relation + R`` asks for the heads of facts whose tail is ``head``.
    """

    target: ClassVar[NodeType] = "entity"

    head: Tensor
    relation: Tensor

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Users are no question here."""
        raise ValueError("this model completes facts and needs an end and a relation; ask it with gmmrec link")

    @classmethod
    def for_links(cls, head: Tensor, relation: Tensor) -> "LinkPredictionQuery":
        """The question which entities stand in relations ``[B]`` to entities ``[B]``."""
        return cls(head, relation)


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
