"""Service: a trained model behind raw ids. Ids in, DataFrames out."""

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
from gmmrec.data.lists import Lists
from gmmrec.data.ragged import Ragged
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.evaluation.ranking import rank
from gmmrec.graph.fold_in import with_new_users
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.tasks.next_item import Timeline
from gmmrec.tasks.query import HistoryQuery, LinkQuery, OutfitQuery
from gmmrec.tasks.questions import Questions
from gmmrec.typing import NodeType

logger = logging.getLogger(__name__)

CHUNK = 1024
"""Items compared with the catalogue at once."""


class Service:
    """Answers in the user's own ids.

    Args:
        model: A trained model.
        graph: The prepared graph it is asked on.
        vocabularies: Raw ids by node type.
        seen: Items that every user already knows ``[U]``; left out of recommendations unless asked for.
        titles: What to show for every item ``[I]``, or None.
        log: Everything that is known of the users, for models that are asked with histories.
    """

    def __init__(
        self,
        model: AnyRecommender,
        graph: MultimodalGraph,
        vocabularies: Mapping[NodeType, Vocabulary],
        seen: Ragged,
        titles: Sequence[str] | None = None,
        log: Interactions | None = None,
    ) -> None:
        self.model, self.graph, self.seen, self.log = model.eval(), graph, seen, log
        self.users, self.items = vocabularies["user"], vocabularies["item"]
        self.titles = None if titles is None else pd.Series(list(titles), dtype=object)

    @cached_property
    def encoded(self) -> Encoded:
        """Representations of all nodes, computed at the first question."""
        with torch.no_grad():
            encoded = encode(self.model, self.graph)
        return encoded.detach()  # a table of ids may be handed out as it is

    def recommend(
        self,
        users: Sequence[Hashable] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        histories: Sequence[Sequence[Hashable]] | None = None,
    ) -> pd.DataFrame:
        """The best ``k`` items of every user.

        Args:
            users: Raw ids; everybody where neither users nor histories are given.
            k: Length of every list; shorter where fewer candidates remain.
            exclude_seen: Leave out what the user already knows.
            histories: Raw item ids of people the model has never seen, one list a person, oldest first: they join the graph as
                new users with these interactions and no embedding of their own. Their ``user_id`` is ``"history-0"`` and so on.

        Returns:
            Columns ``user_id``, ``item_id``, ``score``, ``rank`` (from 1), and ``title`` where titles are known.

        Raises:
            KeyError: An id is unknown.
            ValueError: ``k`` is not positive, or both users and histories are given.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, but is {k}")
        if users is not None and histories is not None:
            raise ValueError("give users or histories, not both; call recommend once for each")
        with torch.no_grad():
            if histories is not None:
                names: list[Hashable] = [f"history-{i}" for i in range(len(histories))]
                known, encoded, rows = self._fold_in(histories)
            else:
                names = self.users.ids() if users is None else list(users)
                known, encoded, rows = self.seen, self.encoded, self.users.rows(names)
            nothing = Ragged.from_pairs(rows[:0], rows[:0], len(rows))
            excluded = known.take(rows) if exclude_seen else nothing
            asked = rows if histories is None else rows + len(self.users)  # new people stand behind the known users
            questions = Questions(self.query(asked, histories), nothing, excluded, "everything known")
            top = rank(self.model, encoded, questions, len(self.items), k=k)
            scores = self.model.score(encoded, questions.query, top.clamp(min=0))
        return self._table("user_id", names, "item_id", top, scores)

    def similar_items(self, items: Sequence[Hashable], k: int = 10) -> pd.DataFrame:
        """The ``k`` items whose representations point the same way (cosine) as each given item's.

        Returns:
            Columns ``item_id``, ``similar_id``, ``score``, ``rank`` (from 1), and ``title`` (of the similar item).

        Raises:
            KeyError: An id is unknown.
            ValueError: ``k`` is not positive, or the model has no vectors of items.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, but is {k}")
        if "item" not in self.encoded:
            raise ValueError(f"{type(self.model).__name__} encodes no items to compare; take a run of a model that ranks items")
        rows = self.items.rows(items)
        vectors = F.normalize(self.encoded["item"], dim=-1)
        best = [_nearest(vectors, part, k) for part in rows.split(CHUNK)]
        scores, similar = (torch.cat(parts) for parts in zip(*best, strict=True))
        return self._table("item_id", list(items), "similar_id", similar, scores)

    @cached_property
    def _timeline(self) -> Timeline:
        log = self.log or Interactions(self.seen.groups, self.seen.values)
        return Timeline(log, len(self.users))

    def query(self, rows: Tensor, histories: Sequence[Sequence[Hashable]] | None = None) -> Any:
        """The question what users in these rows ``[B]`` like, as the model takes it, after histories or what is known of them."""
        query_type: Any = self.model.query_type
        if query_type is OutfitQuery:
            raise ValueError("this model completes outfits and needs the items that are there; ask it with gmmrec complete")
        if query_type is LinkQuery:
            raise ValueError("this model completes facts and needs an end and a relation; ask it with gmmrec link")
        if query_type is not HistoryQuery:
            return query_type(user=rows)  # what else it may hold, such as a situation, is left open
        reader = offered(self.model, ReadsHistories)
        if histories is None:
            timeline = self._timeline
            length = int((timeline.ends - timeline.starts).max()) if reader is None else reader.history_length
            return timeline.of(rows, length)
        lists = Lists.from_sequences([self.items.rows(history) for history in histories])
        return HistoryQuery(rows, *lists.last(int(lists.counts.max()) if reader is None else reader.history_length))

    def _fold_in(self, histories: Sequence[Sequence[Hashable]]) -> tuple[Ragged, Encoded, Tensor]:
        lengths = torch.tensor([len(history) for history in histories])
        if not len(histories) or int(lengths.min()) == 0:
            raise ValueError("every history needs at least one item id; recommend popular items to people you know nothing of")
        items = self.items.rows([item for history in histories for item in history])
        if not offered(self.model, FoldsInUsers) and not offered(self.model, ReadsHistories):
            name = type(self.model).__name__
            logger.warning("%s does not declare that it scores new users by their histories: they may all get the same list", name)
        people = torch.arange(len(histories))
        known = Ragged.from_pairs(people.repeat_interleave(lengths), items, len(histories))
        return known, encode(self.model, with_new_users(self.graph, known)), people

    def _table(self, asker: str, names: Sequence[Hashable], answer: str, rows: Tensor, scores: Tensor) -> pd.DataFrame:
        present = rows >= 0
        places = torch.nonzero(present)
        frame: pd.DataFrame = pd.DataFrame(
            {
                asker: pd.Series(list(names)).iloc[places[:, 0].numpy()].to_numpy(),
                answer: self.items.ids(rows[present]),
                "score": scores[present].numpy(),
                "rank": places[:, 1].numpy() + 1,
            }
        )
        if self.titles is not None:
            frame["title"] = self.titles.iloc[rows[present].numpy()].to_numpy()
        return frame


def _nearest(vectors: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and rows ``[n, k]`` of the items nearest to some, themselves left out."""
    cosine = vectors[rows] @ vectors.t()
    cosine[torch.arange(len(rows)), rows] = -torch.inf
    scores, similar = cosine.topk(min(k, len(vectors) - 1), dim=1)
    return scores, similar
