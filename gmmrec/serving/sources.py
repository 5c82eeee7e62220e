"""Sources of answers: the model itself, similar users for a model that folds in no new ones, and popularity."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gmmrec.abilities import NonPersonalized, offered
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.ensemble.neighbours import NeighbourUsers, folds_in_users, score_with_neighbours
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.tasks.query import UserQuery
from gmmrec.typing import ITEM, USER

MODEL = "model"
"""Scores of the model, also for new users that it folds in by their histories."""
SIMILAR_USERS = "similar users"
"""Scores of the model for the trained users with the most similar histories."""
POPULARITY = "popularity"
"""Numbers of training interactions."""


@dataclass(frozen=True)
class Audience:
    """Users in a question."""

    names: list[Hashable]
    """Raw ids, or names of new users."""
    rows: Tensor
    """Rows ``[n]``; -1 for a new user."""
    histories: RaggedLists
    """Items of every user ``[n]``, oldest first; empty for users that training has seen."""
    seen: RaggedSets
    """Items left out of recommendations by default ``[n]``."""


@dataclass(frozen=True)
class Source:
    """Scores for some of the users in a question."""

    basis: str
    """``MODEL``, ``SIMILAR_USERS`` or ``POPULARITY``."""
    scorer: Any
    """The model, or anything else with its method ``score``."""
    encoded: Encoded
    """Encoding that the scorer reads."""
    query: Callable[[Tensor], Any]
    """Function from positions among these users to their queries."""


@dataclass(frozen=True)
class BySimilarUsers:
    """Scorer of new users by their neighbours."""

    model: AnyRecommender
    neighbours: NeighbourUsers

    def score(self, encoded: Encoded, query: Any, candidates: Tensor) -> Tensor:
        """Return scores of candidates; see :func:`~gmmrec.ensemble.neighbours.score_with_neighbours`."""
        return score_with_neighbours(self.model, encoded, query, candidates, self.neighbours)


@dataclass(frozen=True)
class ByPopularity:
    """Scorer by the number of training interactions of every item ``[I]``, alike for everybody."""

    degree: Tensor

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the numbers of training interactions of candidates."""
        found = self.degree[candidates]
        return found.expand(len(query), -1) if candidates.dim() == 1 else found


def readable(model: AnyRecommender, graph: MultimodalGraph, known: Tensor) -> Tensor:
    """Return the mask of items ``[I]`` that tell anything of a new user: those known to the model, or those with interactions."""
    return known if folds_in_users(model) else graph.degree(ITEM) > 0


def sources_of_new_users(
    model: AnyRecommender,
    graph: MultimodalGraph,
    encoded: Callable[[], Encoded],
    histories: RaggedLists,
    query: Callable[[Tensor, RaggedLists], Any],
) -> Iterator[tuple[Tensor, Source]]:
    """Yield sources for users without training interactions, with the positions of the users that each answers for.

    Args:
        model: A trained model.
        graph: The prepared graph.
        encoded: Function that returns the encoding of ``graph``.
        histories: Readable items of every user ``[n]``, oldest first; possibly none.
        query: Function from rows of users ``[B]`` and their histories to a query of the model's type.
    """
    has_history = histories.counts > 0
    if offered(model, NonPersonalized) is not None:  # the same answer for everybody
        has_history = torch.ones_like(has_history)
    with_history, without = torch.nonzero(has_history).flatten(), torch.nonzero(~has_history).flatten()
    first = graph.num_nodes(USER)  # new users follow the known ones
    if with_history.numel():
        lists = histories.take(with_history)
        sets = RaggedSets.from_pairs(lists.groups, lists.values, len(lists))

        def ask(position: Tensor) -> Any:
            return query(first + position, lists.take(position))

        if folds_in_users(model):
            yield with_history, Source(MODEL, model, encode(model, with_new_users(graph, sets)), ask)
        else:
            scorer = BySimilarUsers(model, NeighbourUsers.of(graph, sets, first))
            yield with_history, Source(SIMILAR_USERS, scorer, encoded(), ask)
    if without.numel():
        yield without, Source(POPULARITY, ByPopularity(graph.degree(ITEM)), Encoded({}), UserQuery)
