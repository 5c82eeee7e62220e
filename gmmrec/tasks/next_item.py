"""Next-item prediction: training on the order of each user's events, and rankings for held-out events."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_positive
from gmmrec.data.interactions import Interactions, joined
from gmmrec.data.ragged import RaggedSets, windows
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import new_answers
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.negatives import UniformNegatives, drawable
from gmmrec.tasks.query import Batch, HistoryQuery

POOL = 64
"""Batches whose examples are sorted by length together."""


@dataclass(frozen=True)
class HistoryConfig:
    """Settings of histories, shared by all models that answer a HistoryQuery."""

    max_length: int = 50
    """Maximum length of a history; the most recent items are kept."""
    stride: int = 1
    """Events of a user between the ends of training examples, counted back from the last event: 1 predicts every event from its
    history; a model that learns all positions of an example at once sets `max_length` or less."""

    def __post_init__(self) -> None:
        check_positive(max_length=self.max_length, stride=self.stride)


class Timeline:
    """Events by user, oldest first; events of the same moment keep the order of the log.

    Args:
        log: Events; without times and an order, that of the log is used.
        num_users: Number of users.

    Attributes:
        user: Rows ``[E]``, ascending.
        item: Rows ``[E]``.
        time: Seconds since 1970 ``[E]``, or None without dates.
        first: Position of the first event of each event's user ``[E]``.
        position: Position of each event of the log ``[E]``.
    """

    def __init__(self, log: Interactions, num_users: int) -> None:
        order = torch.arange(len(log)) if log.moment is None else torch.argsort(log.moment, stable=True)
        order = order[torch.argsort(log.user[order], stable=True)]
        self.user, self.item = log.user[order], log.item[order]
        self.time = None if log.time is None else log.time[order]
        counts = torch.bincount(log.user, minlength=num_users)
        self.starts = counts.cumsum(0) - counts
        self.ends = counts.cumsum(0)
        self.first = self.starts[self.user]
        self.position = torch.empty_like(order)
        self.position[order] = torch.arange(len(order))

    @property
    def longest(self) -> int:
        """Maximum number of events of a user."""
        return int((self.ends - self.starts).max())

    def before(self, position: Tensor, length: int) -> HistoryQuery:
        """Return the histories before the events at positions ``[B]``, without the events themselves."""
        return self._query(self.user[position], self.first[position], position, length)

    def of(self, user: Tensor, length: int) -> HistoryQuery:
        """Return the full histories of users ``[B]``."""
        return self._query(user, self.starts[user], self.ends[user], length)

    def _query(self, user: Tensor, first: Tensor, end: Tensor, length: int) -> HistoryQuery:
        items, mask = windows(self.item, first, end, length)
        time = None if self.time is None else windows(self.time, first, end, length)[0]
        return HistoryQuery(user, items, mask, time)


class NextItemTask:
    """Training examples and evaluation tasks of one split, in temporal order.

    An example is an event of the training part with the user's history in that part; the first event of a user is no example. A
    query is the user of a held-out event with the full history before it (for a validation event, from the training, support and
    validation parts; for a test event, from all parts); the relevant item is the one of the event. Neither later events nor the
    event itself are part of the history. Repeated items are events like all others.

    Args:
        inputs: Split, sizes, batches, and the settings of the model, which give the length of histories.

    Raises:
        UsageError: No user has two training interactions, or batches are sampled.
    """

    monitor: ClassVar[str] = "recall@20"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_users, num_items, config = inputs.split, inputs.num_users, inputs.num_items, inputs.batches
        if config.sampled:
            raise UsageError("models of histories read all items and cannot train on sampled subgraphs; set sampled: false")
        self.split, self.num_users, self.num_items, self.config = split, num_users, num_items, config
        self._item_order = inputs.item_order
        self.settings = inputs.settings if isinstance(inputs.settings, HistoryConfig) else HistoryConfig()
        self._train = Timeline(split.train, num_users)
        rank = torch.arange(len(split.train)) - self._train.first
        to_last = torch.bincount(self._train.user, minlength=num_users)[self._train.user] - 1 - rank
        self._examples = torch.nonzero((rank > 0) & (to_last % self.settings.stride == 0)).flatten()
        if not self._examples.numel():
            raise UsageError("no user has two training interactions; next-item prediction needs at least one such user")
        self._lengths = rank[self._examples].clamp(max=self.settings.max_length)
        seen = RaggedSets.from_pairs(split.train.user, split.train.item, num_users)
        pool = num_items if config.negatives_from == "all" else split.train.item
        self._negatives = UniformNegatives(seen, pool)
        self._drawable = partial(drawable, self._negatives, names=inputs.users, remedy=inputs.more_negatives)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-self._kept.numel() // self.config.batch_size)

    @cached_property
    def _kept(self) -> Tensor:
        """Positions of the examples for which negatives can be drawn; found when training begins."""
        return self._drawable(self._train.user[self._examples])

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[HistoryQuery]]]:
        """Yield one epoch: every example once, shuffled, batched by length, with fresh negatives.

        A batch is as wide as its longest history. Negatives are never training items of the user.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        for index in by_length(self._lengths[self._kept], self.config.batch_size, generator):
            position = self._examples[self._kept[index]]
            query = self._train.before(position, self.settings.max_length)
            negative = self._negatives.draw(query.user, self.config.num_negatives, generator)
            yield graph, Batch(query, self._train.item[position], negative)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[HistoryQuery]:
        """Return the ranking task of one split part: every event whose item may be ranked, with the history before it.

        Args:
            part: Split part of the events.
            mask: Items of a user that are excluded from ranking; ``none`` where repeat consumption is common.

        Raises:
            UsageError: The part or the mask is unknown, the mask covers the part itself, or no relevant item is left.
        """
        events, excluded, position_in_part = new_answers(self.split, self.num_users, part, mask)
        known = [*self.split.past, self.split.valid] + ([self.split.test] if part == "test" else [])
        timeline = Timeline(joined(known), self.num_users)
        before = sum(len(log) for log in known) - len(self.split.part(part))
        position = timeline.position[before + position_in_part]
        query = timeline.before(position, self.settings.max_length)
        relevant = RaggedSets(torch.arange(len(events) + 1), events.item)
        return RankingEvaluation(query, relevant, excluded.take(events.user), mask, self._item_order)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of the next items."""
        return {"ranking": self.ranking(part, mask)}


def by_length(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Return batches of positions ``[n]`` in random order, each of examples of similar length, to keep padding small.

    Shuffled positions are split into pools of ``POOL`` batches; each pool is sorted by length and split into batches.

    >>> sizes = torch.tensor([1, 9, 1, 9])
    >>> sorted(sizes[batch].tolist() for batch in by_length(sizes, 2, torch.Generator().manual_seed(0)))
    [[1, 1], [9, 9]]
    """
    batches = []
    for pool in torch.randperm(lengths.numel(), generator=generator).split(POOL * batch_size):
        batches += pool[lengths[pool].argsort(descending=True, stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
