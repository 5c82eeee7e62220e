"""Context-aware ranking: every interaction is a separate event, with its time as the context."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import CollaborativeTask, fork_generator, new_answers, sampled_batches
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch, ContextQuery

logger = logging.getLogger(__name__)

DAY = 86_400
"""Seconds."""
FIRST_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


def time_context(time: Tensor) -> Tensor:
    """Return five features per timestamp: hour of day, weekday and weekend.

    Hour of day and weekday are angles, given by sine and cosine, so that midnight is near 11 p.m. and Sunday near Monday; the fifth
    feature is 1 on Saturdays and Sundays. Times are taken as they are: shift them to local time first (``data.utc_offset``). Times
    with a resolution of days are all midnight, so their first two columns are constant.

    Args:
        time: Seconds since 1970 ``[E]`` (int64).

    Returns:
        ``[E, 5]`` (float32).

    >>> time_context(torch.tensor([3 * 3600])).round(decimals=4)        # Thursday, 3 a.m.
    tensor([[ 0.7071,  0.7071,  0.4339, -0.9010,  0.0000]])
    """
    weekday = (torch.div(time, DAY, rounding_mode="floor") + FIRST_WEEKDAY) % 7
    angles = [2 * math.pi * (time % DAY).double() / DAY, 2 * math.pi * weekday.double() / 7]
    waves = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    return torch.stack([*waves, (weekday >= 5).double()], 1).float()


class ContextTask:
    """Training batches and evaluation tasks of one split, event by event.

    Every interaction is learned as often as it was logged, each time with the context of its time; without dates in the log there
    is no context, which a warning says where the log has an order. A query is the user and time of a held-out event; the relevant
    item is the one of the event.

    Args:
        inputs: Split, sizes and batches.

    Raises:
        UsageError: There is no training interaction.
    """

    monitor: ClassVar[str] = "recall@20"

    def __init__(self, inputs: TaskInputs) -> None:
        self.pairs = CollaborativeTask(replace(inputs, reviews=None))
        self.split, self.config, self._item_order = inputs.split, inputs.batches, inputs.item_order
        split = inputs.split
        self.context = None if split.train.time is None else time_context(split.train.time)
        if split.train.order is not None:
            logger.warning("the times of the log are an order without dates, so hour and weekday are unknown to the model")

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-self._examples.numel() // self.config.batch_size)

    @cached_property
    def _examples(self) -> Tensor:
        """Positions of the training events in the batches."""
        return self.pairs.drawable(self.split.train.user)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[ContextQuery]]]:
        """Yield one epoch: every training event once, shuffled, with fresh negatives, and the graph to train on.

        Args:
            graph: The graph of this epoch; on the CPU in sampled mode.
            generator: Source of the order, of the negatives and of the neighbours.
        """
        train = self.split.train
        shuffled = self._examples[torch.randperm(self._examples.numel(), generator=generator)]
        order = shuffled.split(self.config.batch_size)
        draw = partial(self.pairs.negatives.draw, generator=generator)
        if self.config.sampled:
            found = sampled_batches(graph, (train.user, train.item), order, draw, self.config, fork_generator(generator))
            for index, (part, batch) in zip(order, found, strict=True):
                yield part, Batch(ContextQuery(batch.query.user, self._context(index)), batch.positive, batch.negative)
            return
        for index in order:
            user = train.user[index]
            negative = draw(user, self.config.num_negatives)
            yield graph, Batch(ContextQuery(user, self._context(index)), train.item[index], negative)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[ContextQuery]:
        """Return the ranking task of one split part: the item of every event, in the order of the log.

        Items known to the user are not ranked, and events on such items are dropped; the user's other items of the part are ranked.

        Args:
            part: Split part of the events.
            mask: Items of a user that are excluded from ranking.

        Raises:
            UsageError: The part or the mask is unknown, the mask covers the part itself, or no relevant item is left.
        """
        events, excluded, _ = new_answers(self.split, self.pairs.num_users, part, mask)
        query = ContextQuery(events.user, None if events.time is None else time_context(events.time))
        relevant = RaggedSets(torch.arange(len(events) + 1), events.item)
        return RankingEvaluation(query, relevant, excluded.take(events.user), mask, self._item_order)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of all items, event by event."""
        return {"ranking": self.ranking(part, mask)}

    def _context(self, index: Tensor) -> Tensor | None:
        return None if self.context is None else self.context[index]
