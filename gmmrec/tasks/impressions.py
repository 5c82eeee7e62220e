"""Impressions: training on clicks among the items shown, and rankings of held-out impressions."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists, RaggedSets, windows
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import known_items
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import HistoryConfig, by_length
from gmmrec.tasks.query import Batch, HistoryQuery


class ImpressionTask:
    """Training examples and evaluation tasks of one split, made from impressions.

    An example is a click of a training impression, with the earlier clicks of its user; negatives are items of the same impression
    that were not clicked. A query is a held-out impression. Histories come from the impression itself (``Impressions.history``), so
    that no other impression or user leaks in. Training impressions without an unclicked item, or with an empty history, give no
    examples.

    Args:
        inputs: A split with impressions, sizes, batches (``num_negatives`` are drawn per click), and the settings of the model,
            which give the length of histories.

    Raises:
        UsageError: There are no impressions, no usable training impression, or batches are sampled.
    """

    monitor: ClassVar[str] = "impressions/auc"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_users, num_items, config = inputs.split, inputs.num_users, inputs.num_items, inputs.batches
        if config.sampled:
            raise UsageError("models of histories read all items and cannot train on sampled subgraphs; set sampled: false")
        if split.impressions is None:
            raise UsageError("the data set has no impressions; choose a data set that logs the items shown to users")
        self.split, self.num_users, self.num_items, self.config = split, num_users, num_items, config
        self._item_order = inputs.item_order
        self.settings = inputs.settings if isinstance(inputs.settings, HistoryConfig) else HistoryConfig()
        self.impressions = split.impressions
        shown, clicked = self.impressions.shown, self.impressions.clicked
        impression = shown.groups  # per item shown
        clicks = RaggedSets.from_pairs(impression[clicked], shown.values[clicked], len(shown))
        unclicked = ~clicks.contains(impression, shown.values)  # an item shown twice counts as clicked if clicked once
        self._unclicked = RaggedLists.from_groups(impression[unclicked], shown.values[unclicked], len(shown))
        lengths = self.impressions.history.counts
        usable = (self.impressions.part == TRAIN) & (self._unclicked.counts > 0) & (lengths > 0)
        self._examples = torch.nonzero(usable[clicks.groups]).flatten()
        if not self._examples.numel():
            raise UsageError("no training impression has a history, a clicked and an unclicked item; expected at least one")
        self._impression, self._item = clicks.groups[self._examples], clicks.values[self._examples]
        self._lengths = lengths[self._impression].clamp(max=self.settings.max_length)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-self._examples.numel() // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[HistoryQuery]]]:
        """Yield one epoch: every click once, shuffled, batched by length, with fresh negatives.

        A batch is as wide as its longest history.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        for index in by_length(self._lengths, self.config.batch_size, generator):
            impression = self._impression[index]
            negative = draw(self._unclicked.take(impression), self.config.num_negatives, generator)
            yield graph, Batch(self.query(impression), self._item[index], negative)

    def query(self, impression: Tensor) -> HistoryQuery:
        """Return impressions ``[B]`` as queries: their users, with the earlier clicks of each."""
        history, times = self.impressions.history, self.impressions.history_time
        first, end, length = history.indptr[impression], history.indptr[impression + 1], self.settings.max_length
        items, mask = windows(history.values, first, end, length)
        time = None if times is None else windows(times, first, end, length)[0]
        return HistoryQuery(self.impressions.user[impression], items, mask, time)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[HistoryQuery]:
        """Return the ranking task of one split part: the clicks of every impression, ranked among the whole catalogue.

        Args:
            part: Split part of the impressions.
            mask: Items of a user that are excluded from ranking; ``none`` where repeat consumption is common.

        Raises:
            UsageError: The part or the mask is unknown, the mask covers the part itself, or no relevant item is left.
        """
        excluded = known_items(self.split, self.num_users, part, mask)
        shown, clicked, user = self.impressions.shown, self.impressions.clicked, self.impressions.user
        impression, item = shown.groups[clicked], shown.values[clicked]
        new = self.impressions.of_part(part)[impression] & ~excluded.contains(user[impression], item)
        if not bool(new.any()):
            raise UsageError(f"no impression of the {part} part has a click outside {mask}; use another mask or split")
        relevant = RaggedSets.from_pairs(impression[new], item[new], len(shown))
        position = torch.nonzero(relevant.counts).flatten()
        sets = (relevant.take(position), excluded.take(user[position]))
        return RankingEvaluation(self.query(position), *sets, mask, self._item_order)

    def candidates(self, part: Literal["valid", "test"]) -> CandidateEvaluation[HistoryQuery]:
        """Return all impressions of one part that have both a clicked and an unclicked item.

        Raises:
            UsageError: There is none.
        """
        position = self.impressions.telling(part)
        if not position.numel():
            raise UsageError(f"the {part} part has no impression with both a clicked and an unclicked item; use another split")
        found = self.impressions.take(position)
        return CandidateEvaluation(self.query(position), found.shown, found.clicked)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of all items and the ranking of the items shown."""
        return {"ranking": self.ranking(part, mask), "impressions": self.candidates(part)}


def draw(lists: RaggedLists, count: int, generator: torch.Generator) -> Tensor:
    """Draw values ``[G, count]`` from non-empty lists: without replacement as far as a list is long enough, then with repeats.

    >>> draw(RaggedLists(torch.tensor([0, 3, 4]), torch.tensor([5, 5, 5, 7])), 2, torch.Generator().manual_seed(0))
    tensor([[5, 5],
            [7, 7]])
    """
    size = lists.counts[:, None]
    width = int(lists.counts.max())
    chance = torch.rand(len(lists), max(width, count), generator=generator)
    absent = torch.arange(chance.shape[1]) >= size
    order = chance.masked_fill(absent, 2.0).argsort(dim=1)[:, :count]  # existing positions come first
    again = (chance[:, :count] * size).long().clamp(max=size - 1)
    position = torch.where(torch.arange(count) < size, order, again)
    return lists.values[lists.indptr[:-1, None] + position]
