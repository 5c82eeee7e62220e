"""Service: a trained model behind raw ids, which takes ids and returns DataFrames."""

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import ReadsHistories, offered
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UnknownIdError, UsageError, quote_names
from gmmrec.evaluation.ranking import rank, tie_order
from gmmrec.evaluation.scoring import full_tiles, tiled_scores
from gmmrec.evaluation.top import top_columns
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.serving.ids import Unknown, as_lists, as_pairs, known_rows, listed, switch, whole_number
from gmmrec.serving.known import known_items, known_users
from gmmrec.serving.sources import MODEL, Audience, Source, readable, sources_of_new_users
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.next_item import Timeline
from gmmrec.tasks.query import HistoryQuery
from gmmrec.typing import ITEM, NodeType

logger = logging.getLogger(__name__)

CHUNK = 1024
"""Users ranked for, or items compared with the catalogue, at once."""
CELLS = 2**20
"""Pairs scored at once."""
UNKNOWN_ITEM = "unknown item"
"""Basis of a pair without a score."""


class Service:
    """A trained model that answers in raw ids.

    Nobody gets an arbitrary answer. Users that training has not seen are scored by their histories: by the model if it folds in new
    users, else as the trained users with the most similar histories; without a history they get popular items. The column ``basis``
    of an answer names the source: ``"model"``, ``"similar users"`` or ``"popularity"``. An item with neither training interactions
    nor features that the model reads is never recommended.

    Args:
        model: A trained model.
        graph: The prepared graph.
        vocabularies: Raw ids by node type.
        seen: Items known to every user ``[U]``; left out of recommendations by default.
        titles: Title of every item ``[I]``, or None.
        log: All interactions, for models of histories and for users that training has not seen.
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

    @cached_property
    def known_items(self) -> Tensor:
        """Mask of the items that the model knows ``[I]``; see :func:`gmmrec.serving.known.known_items`."""
        return known_items(self.model, self.graph)

    @cached_property
    def known_users(self) -> Tensor:
        """Mask of the users that the model knows ``[U]``; see :func:`gmmrec.serving.known.known_users`."""
        return known_users(self.model, self.graph)

    @torch.no_grad()
    def recommend(
        self,
        users: Sequence[Hashable] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        histories: Sequence[Sequence[Hashable]] | None = None,
        candidates: Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] | None = None,
        unknown: Unknown = "refuse",
    ) -> pd.DataFrame:
        """Return the top ``k`` items of every user; among equal scores, more popular items first, then the lower raw id.

        Args:
            users: Raw ids; all users if neither users nor histories are given.
            k: Length of every list; shorter where fewer candidates remain.
            exclude_seen: Leave out items known to the user.
            histories: Raw item ids of new users, one list per user, oldest first, possibly empty. Their ``user_id`` is
                ``"history-0"`` and so on.
            candidates: Raw ids of the items to choose from, such as those in stock; only these are scored. All by default.
            exclude: Raw ids of items never to recommend.
            unknown: What to do about unknown ids: ``"refuse"``, or ``"skip"`` to answer for the others and log a warning.

        Returns:
            Columns ``user_id``, ``item_id``, ``score``, ``rank`` (from 1), ``basis`` (source of the scores: ``"model"``,
            ``"similar users"`` or ``"popularity"``), and ``title`` if titles are given.

        Raises:
            UnknownIdError: An id is unknown.
            WrongTypeError: An argument is of a wrong type, such as a single id in place of a list.
            UsageError: ``k`` is not positive, no candidate remains, or both users and histories are given.
        """
        k, exclude_seen = whole_number("k", k), switch("exclude_seen", exclude_seen)
        if users is not None and histories is not None:
            raise UsageError("give users or histories, not both; call recommend once for each")
        self.query(torch.arange(0))  # refused by models of other queries
        pool = self._pool(candidates, exclude, unknown)
        audience = self._known(users, unknown) if histories is None else self._new(histories, unknown)
        k = min(k, int(pool.sum()))
        items = torch.full((len(audience.rows), k), -1)
        scores = torch.full(items.shape, -torch.inf)
        basis = np.full(len(items), MODEL, dtype=object)
        for positions, source in self._sources(audience):
            basis[positions.numpy()] = source.basis
            for part in torch.arange(len(positions)).split(CHUNK):
                chunk = positions[part]
                nothing = RaggedSets.from_pairs(part[:0], part[:0], len(part))
                excluded = audience.seen.take(chunk) if exclude_seen else nothing
                task = RankingEvaluation(source.query(part), nothing, excluded, "everything known")
                some = None if bool(pool.all()) else pool
                items[chunk], scores[chunk] = rank(
                    source.scorer, source.encoded, task, len(self.items), k=k, pool=some, order=self.tie_order
                )
        return self._table("user_id", audience.names, "item_id", items, scores, basis)

    @torch.no_grad()
    def similar_items(
        self,
        items: Sequence[Hashable],
        k: int = 10,
        *,
        candidates: Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] | None = None,
        unknown: Unknown = "refuse",
    ) -> pd.DataFrame:
        """Return the ``k`` items whose representations are most similar (cosine) to that of each given item.

        Among items that are equally similar, more popular ones come first, then those with the lower raw id.

        Args:
            items: Raw ids.
            k: Length of every list; shorter where fewer candidates remain.
            candidates: Raw ids of the items to choose from; all by default.
            exclude: Raw ids of items to leave out.
            unknown: What to do about unknown ids, and about items that the model knows nothing of: ``"refuse"`` or ``"skip"``.

        Returns:
            Columns ``item_id``, ``similar_id``, ``score``, ``rank`` (from 1), and ``title`` (of the similar item).

        Raises:
            UnknownIdError: An id is unknown, or the model knows nothing of the item.
            WrongTypeError: An argument is of a wrong type, such as a single id in place of a list.
            UsageError: ``k`` is not positive, no candidate remains, or the model has no vectors of items.
        """
        k = whole_number("k", k)
        if "item" not in self.encoded:
            raise UsageError(f"{type(self.model).__name__} encodes no items to compare; take a run of a model that ranks items")
        pool = torch.nonzero(self._pool(candidates, exclude, unknown)).flatten()
        given = listed("items", items, "item ids")
        rows, positions = known_rows(self.items, given, unknown)
        if not bool(self.known_items[rows].all()):
            message = self.unknown_items(rows[~self.known_items[rows]])
            if unknown == "refuse":
                raise UnknownIdError(f"{message}, so none is similar to it; leave it out, or pass unknown='skip'")
            logger.warning("%s; left out of the answer", message)
            positions = [position for position, known in zip(positions, self.known_items[rows].tolist(), strict=True) if known]
            rows = rows[self.known_items[rows]]
        vectors = F.normalize(self.encoded["item"], dim=-1)
        k = min(k, len(pool))
        best = [_nearest(vectors, part, pool, k, self.tie_order) for part in rows.split(CHUNK)]
        scores, similar = (torch.cat(parts) for parts in zip(*best, strict=True))
        return self._table("item_id", [given[position] for position in positions], "similar_id", similar, scores)

    @torch.no_grad()
    def score(self, pairs: Any, *, unknown: Unknown = "refuse") -> pd.DataFrame:
        """Return the scores of given pairs, on the scale of :meth:`recommend`; only these pairs are scored.

        Args:
            pairs: A DataFrame with the columns ``user_id`` and ``item_id``, or a list of (user, item) pairs of raw ids.
            unknown: What to do about pairs with an unknown id: ``"refuse"``, or ``"skip"`` to answer the others and log a warning.

        Returns:
            One row per pair, in the same order: ``user_id``, ``item_id``, ``score``, ``basis`` (see :meth:`recommend`), and
            ``title`` if titles are given. An item that the model knows nothing of has the score NaN and the basis
            ``"unknown item"``.

        Raises:
            UnknownIdError: An id is unknown.
            WrongTypeError: ``pairs`` is something else.
            UsageError: The model does not score items for users.
        """
        self.query(torch.arange(0))  # refused by models of other queries
        names, targets = as_pairs(pairs)
        users, items = (torch.full((len(names),), -1) for _ in range(2))
        for rows, vocabulary, raw in ((users, self.users, names), (items, self.items, targets)):
            found, positions = known_rows(vocabulary, raw, unknown)
            rows[positions] = found
        answered = torch.nonzero((users >= 0) & (items >= 0)).flatten()
        item, (user, group) = items[answered], users[answered].unique(return_inverse=True)
        lists, order = RaggedLists.from_groups(group, item, len(user)), torch.argsort(group, stable=True)
        scores, basis = torch.full((len(item),), torch.nan), np.full(len(item), UNKNOWN_ITEM, dtype=object)
        for asking, source in self._sources(self._of_rows(self.users.ids(user), user)):
            for part in _of_similar_length(lists.counts[asking]):
                pair = order[lists.positions(asking[part])[0]]
                candidates, present = lists.take(asking[part]).last(int(lists.counts[asking[part]].max()))
                best = tiled_scores(source.scorer, source.encoded, source.query(part), candidates)[present].float()
                if bool(best.isnan().any()):
                    raise UsageError(f"{type(self.model).__name__} returned NaN scores; its training has diverged")
                scores[pair], basis[pair.numpy()] = best.cpu(), source.basis
        cold = ~self.known_items[item]
        if bool(cold.any()):
            logger.warning("%s; it has no score", self.unknown_items(item[cold]))
            scores[cold], basis[cold.numpy()] = torch.nan, UNKNOWN_ITEM
        frame: pd.DataFrame = pd.DataFrame(
            {
                "user_id": [names[position] for position in answered.tolist()],
                "item_id": [targets[position] for position in answered.tolist()],
                "score": scores.numpy(),
                "basis": basis,
            }
        )
        return frame if self.titles is None else frame.assign(title=self.titles.iloc[item.numpy()].to_numpy())

    def query(self, rows: Tensor, histories: RaggedLists | None = None) -> Any:
        """Return a query of the model's type for users in rows ``[B]``, with given histories or those of the log."""

        def before(users: Tensor) -> HistoryQuery:
            reader = offered(self.model, ReadsHistories)
            if histories is None:
                return self._timeline.of(users, self._timeline.longest if reader is None else reader.history_length)
            return HistoryQuery(users, *histories.last(int(histories.counts.max()) if reader is None else reader.history_length))

        return self.model.query_type.for_users(rows, before)

    def check_known(self, user: int, item: int) -> None:
        """Check that a user and an item are known, for explanations.

        Raises:
            UsageError: The user has neither training interactions nor a history, or the model knows nothing of the item.
        """
        reads_log = self.model.query_type.holds_history
        if not bool(self.known_users[user]) and not (reads_log and bool(self._timeline.ends[user] > self._timeline.starts[user])):
            (name,) = self.users.ids(torch.tensor([user]))
            raise UsageError(f"user {name!r} has no training interactions, so no score of the model can be explained; take another")
        if not bool(self.known_items[item]):
            raise UsageError(f"{self.unknown_items(torch.tensor([item]))}, so there is nothing to explain; take another")

    @cached_property
    def _timeline(self) -> Timeline:
        log = self.log or Interactions(self.seen.groups, self.seen.values)
        return Timeline(log, len(self.users))

    def _pool(self, candidates: Any, exclude: Any, unknown: Unknown) -> Tensor:
        """Return the mask of the items to choose from ``[I]``."""
        pool = self.known_items.clone()
        if candidates is not None:
            rows, _ = known_rows(self.items, listed("candidates", candidates, "item ids"), unknown)
            if not bool(self.known_items[rows].all()):
                logger.warning("%s; never recommended", self.unknown_items(rows[~self.known_items[rows]]))
            chosen = torch.zeros_like(pool)
            chosen[rows] = True
            pool &= chosen
        if exclude is not None:
            pool[known_rows(self.items, listed("exclude", exclude, "item ids"), unknown)[0]] = False
        if not bool(pool.any()):
            raise UsageError("no item is left to choose from; give more candidates, or exclude fewer items")
        return pool

    def _known(self, users: Any, unknown: Unknown) -> Audience:
        """Return users of the data set."""
        if users is None:
            return self._of_rows(self.users.ids(), torch.arange(len(self.users)))
        given = listed("users", users, "user ids")
        rows, positions = known_rows(self.users, given, unknown)
        return self._of_rows([given[position] for position in positions], rows)

    def _of_rows(self, names: list[Hashable], rows: Tensor) -> Audience:
        if not bool((~self.known_users[rows]).any()):
            return Audience(names, rows, RaggedLists(torch.zeros(len(rows) + 1, dtype=torch.long), rows[:0]), self.seen.take(rows))
        past = self._timeline.of(rows, self._timeline.longest)
        past_mask = past.mask & ~self.known_users[rows][:, None]
        group, column = past_mask.nonzero(as_tuple=True)
        return Audience(names, rows, RaggedLists.from_groups(group, past.items[group, column], len(rows)), self.seen.take(rows))

    def _new(self, histories: Any, unknown: Unknown) -> Audience:
        """Return new users with histories."""
        lists = as_lists(histories)
        items, positions = known_rows(self.items, [raw_id for history in lists for raw_id in history], unknown)
        groups = torch.arange(len(lists)).repeat_interleave(torch.tensor([len(history) for history in lists], dtype=torch.long))
        groups = groups[torch.tensor(positions, dtype=torch.long)]
        known = RaggedSets.from_pairs(groups, items, len(lists))
        names: list[Hashable] = [f"history-{number}" for number in range(len(lists))]
        return Audience(names, torch.full((len(lists),), -1), RaggedLists.from_groups(groups, items, len(lists)), known)

    def _sources(self, audience: Audience) -> Iterator[tuple[Tensor, Source]]:
        """Yield sources of scores, each with the positions of the users that it answers for."""
        is_known = (audience.rows >= 0) & self.known_users[audience.rows]
        known, new = torch.nonzero(is_known).flatten(), torch.nonzero(~is_known).flatten()
        if known.numel():
            yield known, Source(MODEL, self.model, self.encoded, lambda part: self.query(audience.rows[known[part]]))
        if new.numel():
            lists = audience.histories.take(new)
            read = readable(self.model, self.graph, self.known_items)[lists.values]
            lists = RaggedLists.from_groups(lists.groups[read], lists.values[read], len(lists))
            for positions, source in sources_of_new_users(self.model, self.graph, lambda: self.encoded, lists, self.query):
                yield new[positions], source

    def unknown_items(self, rows: Tensor) -> str:
        """Return the beginning of a message about items in ``rows`` ``[n]`` that the model does not know."""
        distinct = rows.unique()
        ids = f"item{'s' * (len(distinct) > 1)} {quote_names(self.items.ids(distinct))}"
        return f"the model knows nothing of {ids}: no training interaction, no feature it reads"

    def _table(
        self,
        source: str,
        names: Sequence[Hashable],
        target: str,
        rows: Tensor,
        scores: Tensor,
        basis: "np.ndarray[Any, Any] | None" = None,
    ) -> pd.DataFrame:
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
        if basis is not None:
            frame["basis"] = basis[positions[:, 0].numpy()]
        if self.titles is not None:
            frame["title"] = self.titles.iloc[rows[present].numpy()].to_numpy()
        return frame


def _nearest(vectors: Tensor, rows: Tensor, pool: Tensor, k: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and rows ``[n, k]`` of the items in a pool nearest to given ones, without these; -1 in short lists.

    Ties are in an order ``[I]``.
    """
    given, others = full_tiles(len(rows), len(pool), rows.device)
    cosine = (vectors[rows[given]] @ vectors[pool[others]].t())[: len(rows), : len(pool)]
    cosine = cosine.masked_fill(rows[:, None] == pool, -torch.inf)
    scores, columns = top_columns(cosine, k, order[pool])
    return scores, pool[columns].masked_fill(scores == -torch.inf, -1)


def _of_similar_length(counts: Tensor) -> Iterator[Tensor]:
    """Yield positions of lists in chunks of at most ``CELLS`` entries, each chunk padded to its longest list."""
    order = counts.argsort(descending=True, stable=True)
    while order.numel():
        size = min(CHUNK, block_rows(CELLS, int(counts[order[0]])))
        yield order[:size]
        order = order[size:]
