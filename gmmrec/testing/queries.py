"""Toy data, queries and batches of the suite, by query type."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.split import Split
from gmmrec.errors import UsageError
from gmmrec.recommender import AnyRecommender
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.next_item import NextItemTask, Timeline
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import Batch, HistoryQuery, OutfitQuery, PersonalQuery, Query, RatingQuery, UserQuery
from gmmrec.testing.boards import I, U
from gmmrec.testing.toy import checkerboard, rated_checkerboard

QueryClass = type[Query]
History = Callable[[Tensor], HistoryQuery]


@dataclass(frozen=True)
class Asking:
    """Toy data, queries and batches for models of one query type."""

    board: Callable[[int, int], tuple[Dataset, Tensor]]
    """Function from numbers of users and items to toy data and the held-out likes."""
    ask: Callable[[QueryClass, Tensor, History], Query]
    """Function from rows of users and their histories to a query."""
    batch: Callable[[QueryClass, Interactions, torch.Generator], Batch[Any]]
    """Function from interactions to one training batch of all of them."""
    names_items: bool = False
    """True if queries contain items: these represent the users, and the graph is never a subgraph."""
    in_order: bool = False
    """True if the items of a query are a history, oldest first."""


def board(model_class: type[AnyRecommender]) -> tuple[Dataset, Tensor]:
    """Return toy data for a model and the held-out likes, with ratings and reviews for models that predict ratings."""
    return asking(model_class.query_type).board(U, I)


def asked(model: AnyRecommender | type[AnyRecommender], users: Tensor, log: Interactions | None = None) -> Any:
    """Return a query of the model's type for users, with their histories in ``log``."""

    def history(users: Tensor) -> HistoryQuery:
        known = checkerboard(U, I)[0].interactions if log is None else log
        return Timeline(known.to("cpu"), U).of(users.cpu(), 50).to(users.device)

    return asking(model.query_type).ask(model.query_type, users, history)


def training_batch(interactions: Interactions, generator: torch.Generator, query_type: QueryClass = UserQuery) -> Batch[Any]:
    """Return all interactions, with two unseen items each or with their ratings."""
    return asking(query_type).batch(query_type, interactions, generator)


def asking(query_type: QueryClass) -> Asking:
    """Return the row of ``ASKING`` for a query type.

    Raises:
        UsageError: The suite does not cover models of this type.
    """
    for base in query_type.__mro__:
        if base in ASKING:
            return ASKING[base]
    raise UsageError(
        f"the contract suite covers models that rank items for users, not models of {query_type.__name__}; "
        "test this model on other toy data, such as gmmrec.testing.circle"
    )


def _shuffled(num_users: int, num_items: int) -> tuple[Dataset, Tensor]:
    """Return the checkerboard in random order."""
    dataset, held_out_likes = checkerboard(num_users, num_items)
    order = torch.randperm(len(dataset.interactions), generator=torch.Generator().manual_seed(0))
    return replace(dataset, interactions=dataset.interactions.take(order)), held_out_likes


def _ask_users(query_type: QueryClass, users: Tensor, history: History) -> Query:
    return query_type.for_users(users, history)


def _ask_outfits(query_type: QueryClass, users: Tensor, history: History) -> Query:
    """Return a query with the items of each user as both the outfit to complete and the history."""
    past = history(users)
    return query_type.for_outfits(users, past.items, past.mask, lambda _: past)


def _negatives(query_type: QueryClass, interactions: Interactions, generator: torch.Generator) -> Batch[Any]:
    unseen = torch.ones(U, I)
    unseen[interactions.user, interactions.item] = 0
    negative = torch.multinomial(unseen[interactions.user], 2, generator=generator)
    return Batch(query_type.for_users(interactions.user), interactions.item, negative)


def _ratings(query_type: QueryClass, interactions: Interactions, generator: torch.Generator) -> Batch[Any]:
    user, item = interactions.user, interactions.item
    return Batch(query_type.for_users(user), item, item.new_empty(len(item), 0), rating=interactions.weight)


def _next_items(query_type: QueryClass, interactions: Interactions, generator: torch.Generator) -> Batch[Any]:
    task = NextItemTask(TaskInputs(Split(interactions, interactions, interactions), U, I, BatchConfig(num_negatives=2)))
    (batch,) = [batch for _, batch in task.batches(None, generator)]  # type: ignore[arg-type]
    return batch


def _outfits(query_type: QueryClass, interactions: Interactions, generator: torch.Generator) -> Batch[Any]:
    whole = RaggedLists.from_groups(interactions.user, interactions.item, U)
    user = torch.nonzero(whole.counts >= 3).flatten()
    whole = whole.take(user)
    in_outfit = (torch.arange(len(whole.values)) - whole.indptr[whole.groups]) % 3 > 0  # two of three; the rest is the history
    outfit, before = (RaggedLists.from_groups(whole.groups[c], whole.values[c], len(whole)) for c in (in_outfit, ~in_outfit))
    outfits = Outfits(outfit, torch.zeros(len(outfit), dtype=torch.long), user, before)
    split = Split(interactions, interactions, interactions, outfits=outfits)
    (batch,) = [batch for _, batch in OutfitTask(TaskInputs(split, U, I)).batches(None, generator)]  # type: ignore[arg-type]
    return batch


ASKING: dict[type, Asking] = {
    PersonalQuery: Asking(checkerboard, _ask_users, _negatives),
    RatingQuery: Asking(rated_checkerboard, _ask_users, _ratings),
    HistoryQuery: Asking(_shuffled, _ask_users, _next_items, names_items=True, in_order=True),
    OutfitQuery: Asking(_shuffled, _ask_outfits, _outfits, names_items=True),
}
"""Rows by query type; another type uses the row of its nearest base."""
