"""Queries to a model, and training batches made of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from gmmrec.errors import UsageError
from gmmrec.renamed import refuse_old_names
from gmmrec.typing import NodeType


@dataclass(frozen=True)
class Query:
    """A batch of ranking queries, one per row; ``target`` is the node type that is ranked.

    ``for_users``, ``for_outfits`` and ``for_links`` build a query of the class, or raise and state what it needs instead.
    """

    target: ClassVar[NodeType] = "item"
    ranks_for_users: ClassVar[bool] = False
    """True if a query consists of users alone and scores serve only to order items, as members of an ensemble require."""
    holds_history: ClassVar[bool] = False
    """True if users are represented by their latest items, held in the query: new users are queries like all others, and a random
    split of a log with times would let a query read later events than the one it is asked for."""

    def __len__(self) -> int:
        first: Tensor = getattr(self, fields(self)[0].name)
        return first.shape[0]

    @property
    def users(self) -> Tensor | None:
        """Rows of the users ``[B]``, -1 for no particular user; None if queries have no users."""
        return None

    @property
    def identity(self) -> Tensor:
        """Numbers that identify the queries ``[B]``: the users' rows, or positions if queries have no users."""
        return torch.arange(len(self)) if self.users is None else self.users

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Return a query for the items that users ``[B]`` like.

        Args:
            user: Rows of the graph.
            history: Returns the histories of users; called if they are part of the query.

        Raises:
            UsageError: The class needs more than users.
        """
        raise UsageError(f"{cls.__name__} needs more than users")

    @classmethod
    def for_outfits(
        cls, user: Tensor, outfit: Tensor, outfit_mask: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None
    ) -> "OutfitQuery":
        """Return a query for the items that complete outfits ``[B, L]`` for users ``[B]``; see :class:`OutfitQuery`.

        Raises:
            UsageError: The class does not complete outfits.
        """
        raise UsageError("this model ranks items but does not complete outfits; use a run of one that does, such as pog")

    @classmethod
    def for_links(cls, head: Tensor, relation: Tensor) -> "LinkPredictionQuery":
        """Return a query for the entities linked by relations ``[B]`` to entities ``[B]``; see :class:`LinkPredictionQuery`.

        Raises:
            UsageError: The class does not predict links.
        """
        raise UsageError("this model does not predict links; use a run of one that does, such as mkgformer")

    def take(self, index: Tensor | slice) -> Self:
        """Return the queries at positions ``index``."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self) if getattr(self, f.name) is not None})

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on another device."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device) for f in fields(self) if getattr(self, f.name) is not None},
        )


@dataclass(frozen=True)
class PersonalQuery(Query):
    """Query with users: ``user`` ``[B]`` holds rows of the graph."""

    user: Tensor

    @property
    def users(self) -> Tensor:
        """Rows of the users ``[B]``."""
        return self.user

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Return a query for the items that users ``[B]`` like; optional fields, such as a context, stay unset."""
        return cls(user)


@dataclass(frozen=True)
class UserQuery(PersonalQuery):
    """Query for the items that users like; ``user`` ``[B]`` holds rows of the graph."""

    ranks_for_users: ClassVar[bool] = True


@dataclass(frozen=True)
class ContextQuery(PersonalQuery):
    """Query for the items that users like in a context.

    ``user`` ``[B]`` holds rows of the graph; ``context`` ``[B, F]`` describes the event (its time, say), None if nothing is known.
    """

    ranks_for_users: ClassVar[bool] = True
    context: Tensor | None = None


@dataclass(frozen=True)
class RatingQuery(PersonalQuery):
    """Query for the ratings that users give to items; ``user`` ``[B]`` holds rows of the graph, a score is a predicted rating."""


@dataclass(frozen=True)
class HistoryQuery(PersonalQuery):
    """Query for the next items of users, given their histories.

    ``user`` ``[B]`` and ``items`` ``[B, L]`` hold rows of the graph; items are ordered oldest first, with the newest in the last
    column. Shorter histories are left-padded: there ``mask`` ``[B, L]`` is False and ``items`` is arbitrary. ``time`` ``[B, L]``
    holds seconds since 1970 (int64), or is None if times are unknown.
    """

    items: Tensor
    mask: Tensor
    time: Tensor | None = None
    holds_history: ClassVar[bool] = True

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "HistoryQuery":
        """Return a query for the next items of users ``[B]``, given the histories that ``history`` returns.

        Raises:
            UsageError: No histories are given.
        """
        if history is None:
            raise UsageError("this model needs the histories of users; give them")
        return history(user)


@dataclass(frozen=True)
class OutfitQuery(PersonalQuery):
    """Query for the items that complete outfits, for users.

    ``outfit`` ``[B, L]`` holds rows of the given items, in any order; ``outfit_mask`` ``[B, L]`` is True where there is one; an
    outfit may be empty. ``user`` ``[B]`` holds rows of the graph, -1 for no particular user. ``history`` ``[B, L']`` holds the
    user's earlier items, laid out as in :class:`HistoryQuery`; it is None, as is its mask, for data without histories.
    """

    outfit: Tensor
    outfit_mask: Tensor
    history: Tensor | None = None
    history_mask: Tensor | None = None

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Raise: outfits need more than users."""
        raise UsageError("this model completes outfits and needs given items; use gmmrec complete")

    @classmethod
    def for_outfits(
        cls, user: Tensor, outfit: Tensor, outfit_mask: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None
    ) -> "OutfitQuery":
        """Return a query for the items that complete outfits ``[B, L]`` for users ``[B]``, with the histories of these."""
        past = None if history is None else history(user)
        return cls(user, outfit, outfit_mask) if past is None else cls(user, outfit, outfit_mask, past.items, past.mask)

    def without(self, row: Tensor, column: Tensor) -> "OutfitQuery":
        """Return outfits ``[n]`` with one item removed each: the one at ``column`` ``[n]`` of outfit ``row`` ``[n]``."""
        part = self.take(row)
        mask = part.outfit_mask.clone()
        mask[torch.arange(len(row), device=row.device), column] = False
        return replace(part, outfit=part.outfit.masked_fill(~mask, 0), outfit_mask=mask)


@dataclass(frozen=True)
class LinkPredictionQuery(Query):
    """Query for the entities linked to given entities by given relations.

    ``head`` ``[B]`` holds rows of entities, ``relation`` ``[B]`` rows of relations, offset by their number ``R`` for inverse
    relations: ``relation + R`` queries the heads of triples whose tail is ``head``.
    """

    target: ClassVar[NodeType] = "entity"

    head: Tensor
    relation: Tensor

    @classmethod
    def for_users(cls, user: Tensor, history: "Callable[[Tensor], HistoryQuery] | None" = None) -> "Query":
        """Raise: link prediction has no users."""
        raise UsageError("this model predicts links and needs an entity and a relation; use gmmrec link")

    @classmethod
    def for_links(cls, head: Tensor, relation: Tensor) -> "LinkPredictionQuery":
        """Return a query for the entities linked by relations ``[B]`` to entities ``[B]``."""
        return cls(head, relation)


Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True)
class Batch(Generic[Q]):
    """One training step: queries, a positive each, and negatives.

    Attributes:
        query: ``B`` queries.
        positive: Rows ``[B]``.
        negative: Rows ``[B, K]``.
        rating: Rating of the positive ``[B]`` (float32); None if the task has no ratings.
        text: Word ids of the text about the positive ``[B, T]``, padded with 0; None without texts.
        answers: All training answers, as pairs ``[n, 2]`` of a position in the batch and a row; None if not given.
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
        """Positive, followed by the negatives ``[B, 1 + K]``: one call of ``score`` covers both."""
        return torch.cat([self.positive[:, None], self.negative], dim=1)

    def to(self, device: torch.device | str) -> "Batch[Q]":
        """Return a copy on another device."""
        moved = {f.name: value.to(device) for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(self, **moved)


if not TYPE_CHECKING:
    __getattr__ = refuse_old_names(__name__)
