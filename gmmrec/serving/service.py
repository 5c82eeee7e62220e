"""Service: a trained model behind raw ids, which takes ids and returns DataFrames."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, ReadsHistories, offered
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.ranking import Ranked, rank, tie_order
from gmmrec.evaluation.scoring import full_tiles
from gmmrec.evaluation.top import top_columns
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.next_item import Timeline
from gmmrec.tasks.query import HistoryQuery
from gmmrec.typing import ITEM, NodeType

logger = logging.getLogger(__name__)

CHUNK = 1024
"""Users ranked for, or items compared with the catalogue, at once."""


class Service:
    """A trained model that answers in raw ids.

    Args:
        model: A trained model.
        graph: The prepared graph.
        vocabularies: Raw ids by node type.
        seen: Items known to every user ``[U]``; left out of recommendations by default.
        titles: Title of every item ``[I]``, or None.
        log: All interactions, for models of histories.
    """

    def __init__(
        self,
        model: AnyRecommender,
        graph: MultimodalGraph,
        vocabularies: Mapping[NodeType, Vocabulary],
        seen: RaggedSets,
        titles: Sequence[str] | None = None,
        log: Interactions | None = None,
    ) -> None:
        self.model, self.graph, self.seen, self.log = model.eval(), graph, seen, log
        self.users, self.items = vocabularies["user"], vocabularies["item"]
        self.titles = None if titles is None else pd.Series(list(titles), dtype=object)

    @cached_property
    def encoded(self) -> Encoded:
        """Representations of all nodes, computed at first use."""
        with torch.no_grad():
            encoded = encode(self.model, self.graph)
        return encoded.detach()  # embedding tables may be returned as they are

    @cached_property
    def tie_order(self) -> Tensor:
        """Position of every item among items of equal score ``[I]``: more popular ones first, then the lower raw id."""
        return tie_order(self.graph.degree(ITEM), self.items)

    def recommend(
        self,
        users: Sequence[Hashable] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        histories: Sequence[Sequence[Hashable]] | None = None,
    ) -> pd.DataFrame:
        """Return the top ``k`` items of every user; among equal scores, more popular items first, then the lower raw id.

        Args:
            users: Raw ids; all users if neither users nor histories are given.
            k: Length of every list; shorter where fewer candidates remain.
            exclude_seen: Leave out items known to the user.
            histories: Raw item ids of new users, one list per user, oldest first: they join the graph with these interactions and
                without a learned embedding. Their ``user_id`` is ``"history-0"`` and so on.

        Returns:
            Columns ``user_id``, ``item_id``, ``score``, ``rank`` (from 1), and ``title`` if titles are given.

        Raises:
            KeyError: An id is unknown.
            UsageError: ``k`` is not positive, or both users and histories are given.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, but is {k}")
        if users is not None and histories is not None:
            raise UsageError("give users or histories, not both; call recommend once for each")
        with torch.no_grad():
            if histories is not None:
                names: list[Hashable] = [f"history-{i}" for i in range(len(histories))]
                known, encoded, rows = self._fold_in(histories)
            else:
                names = self.users.ids() if users is None else list(users)
                known, encoded, rows = self.seen, self.encoded, self.users.rows(names)
            found = []
            for start in range(0, max(1, len(rows)), CHUNK):
                part = slice(start, start + CHUNK)
                part_histories = None if histories is None else histories[part]
                excluded = known.take(rows[part]) if exclude_seen else None
                found.append(self._best(encoded, rows[part], part_histories, excluded, k))
        items, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        return self._table("user_id", names, "item_id", items, scores)

    def similar_items(self, items: Sequence[Hashable], k: int = 10) -> pd.DataFrame:
        """Return the ``k`` items whose representations are most similar (cosine) to that of each given item.

        Among items that are equally similar, more popular ones come first, then those with the lower raw id.

        Returns:
            Columns ``item_id``, ``similar_id``, ``score``, ``rank`` (from 1), and ``title`` (of the similar item).

        Raises:
            KeyError: An id is unknown.
            UsageError: ``k`` is not positive, or the model has no vectors of items.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, but is {k}")
        if "item" not in self.encoded:
            raise UsageError(f"{type(self.model).__name__} encodes no items to compare; take a run of a model that ranks items")
        rows = self.items.rows(items)
        vectors = F.normalize(self.encoded["item"], dim=-1)
        best = [_nearest(vectors, part, k, self.tie_order) for part in rows.split(CHUNK)]
        scores, similar = (torch.cat(parts) for parts in zip(*best, strict=True))
        return self._table("item_id", list(items), "similar_id", similar, scores)

    def _best(
        self,
        encoded: Encoded,
        rows: Tensor,
        histories: Sequence[Sequence[Hashable]] | None,
        excluded: RaggedSets | None,
        k: int,
    ) -> Ranked:
        """Return the top ``k`` items of users in ``rows`` ``[B]``, or of new users, counted from 0."""
        users = rows if histories is None else rows + len(self.users)  # new users follow the known ones
        nothing = RaggedSets.from_pairs(rows[:0], rows[:0], len(rows))
        excluded = nothing if excluded is None else excluded
        task = RankingEvaluation(self.query(users, histories), nothing, excluded, "everything known")
        return rank(self.model, encoded, task, len(self.items), k=k, order=self.tie_order)

    @cached_property
    def _timeline(self) -> Timeline:
        log = self.log or Interactions(self.seen.groups, self.seen.values)
        return Timeline(log, len(self.users))

    def query(self, rows: Tensor, histories: Sequence[Sequence[Hashable]] | None = None) -> Any:
        """Return a query of the model's type for users in rows ``[B]``, with given histories or those of the log."""

        def before(users: Tensor) -> HistoryQuery:
            reader = offered(self.model, ReadsHistories)
            if histories is None:
                timeline = self._timeline
                return timeline.of(users, timeline.longest if reader is None else reader.history_length)
            lists = RaggedLists.from_sequences([self.items.rows(history) for history in histories])
            return HistoryQuery(users, *lists.last(int(lists.counts.max()) if reader is None else reader.history_length))

        return self.model.query_type.for_users(rows, before)

    def _fold_in(self, histories: Sequence[Sequence[Hashable]]) -> tuple[RaggedSets, Encoded, Tensor]:
        lengths = torch.tensor([len(history) for history in histories])
        if not len(histories) or int(lengths.min()) == 0:
            raise UsageError("every history needs at least one item id; for users without a history, recommend popular items")
        items = self.items.rows([item for history in histories for item in history])
        if not offered(self.model, FoldsInUsers) and not offered(self.model, ReadsHistories):
            name = type(self.model).__name__
            logger.warning("%s does not declare that it folds in new users: they may all get the same list", name)
        new_users = torch.arange(len(histories))
        known = RaggedSets.from_pairs(new_users.repeat_interleave(lengths), items, len(histories))
        return known, encode(self.model, with_new_users(self.graph, known)), new_users

    def _table(self, source: str, names: Sequence[Hashable], target: str, rows: Tensor, scores: Tensor) -> pd.DataFrame:
        present = rows >= 0
        positions = torch.nonzero(present)
        frame: pd.DataFrame = pd.DataFrame(
            {
                source: pd.Series(list(names)).iloc[positions[:, 0].numpy()].to_numpy(),
                target: self.items.ids(rows[present]),
                "score": scores[present].numpy(),
                "rank": positions[:, 1].numpy() + 1,
            }
        )
        if self.titles is not None:
            frame["title"] = self.titles.iloc[rows[present].numpy()].to_numpy()
        return frame


def _nearest(vectors: Tensor, rows: Tensor, k: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and rows ``[n, k]`` of the items nearest to given ones, without these themselves; ties in an order ``[I]``."""
    given, all_items = full_tiles(len(rows), len(vectors), rows.device)
    cosine = (vectors[rows[given]] @ vectors[all_items].t())[: len(rows), : len(vectors)].contiguous()
    cosine[torch.arange(len(rows)), rows] = -torch.inf
    return top_columns(cosine, min(k, len(vectors) - 1), order)
