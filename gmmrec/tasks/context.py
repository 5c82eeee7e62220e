"""User in a situation to items: every interaction is an event of its own, with its time as the context."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import CollaborativeTask, apart, new_answers, sampled_batches
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch, ContextQuery

DAY = 86_400
"""Seconds."""
FIRST_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


def time_context(time: Tensor) -> Tensor:
    """What a clock and a calendar say: five numbers a moment.

    Hour of day and weekday are angles, given by sine and cosine, so that midnight is near 11 p.m. and Sunday near Monday; the fifth
    number is 1 on Saturdays and Sundays. Times are taken as they are: shift them to the local clock first (``data.utc_offset``).
    Times that name the day alone all are midnight, so that their first two columns are constant.

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
    """Training batches and questions of one split, event by event.

    Every interaction is learned as often as it was logged, each time with the context of its time; where the log has no times there
    are no contexts. A question is a held-out event: who, and when; the right answer is its one item.

    Args:
        inputs: Split, sizes and batches.

    Raises:
        ValueError: There is no training interaction.
    """

    monitor: ClassVar[str] = "recall@20"

    def __init__(self, inputs: TaskInputs) -> None:
        self.pairs = CollaborativeTask(replace(inputs, reviews=None))
        self.split, self.config = inputs.split, inputs.batches
        split = inputs.split
        self.context = None if split.train.time is None else time_context(split.train.time)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.split.train) // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[ContextQuery]]]:
        """One epoch: every training event once, shuffled, with fresh negatives, and the graph to learn it on.

        Args:
            graph: The graph of this epoch; on the CPU in sampled mode.
            generator: Source of the order, of the negatives and of the neighbours.
        """
        train = self.split.train
        order = torch.randperm(len(train), generator=generator).split(self.config.batch_size)
        draw = partial(self.pairs.negatives.draw, generator=generator)
        if self.config.sampled:
            found = sampled_batches(graph, (train.user, train.item), order, draw, self.config, apart(generator))
            for index, (part, batch) in zip(order, found, strict=True):
                yield part, Batch(ContextQuery(batch.query.user, self._context(index)), batch.positive, batch.negative)
            return
        for index in order:
            user = train.user[index]
            negative = draw(user, self.config.num_negatives)
            yield graph, Batch(ContextQuery(user, self._context(index)), train.item[index], negative)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[ContextQuery]:
        """What is asked of a model: the item of every event of one part, in the order of the log.

        Items that the user knows are not ranked, and events at such items not asked; the user's other items of the part are ranked.

        Args:
            part: Where the right answers are.
            mask: Which items of a user are excluded from ranking.

        Raises:
            ValueError: The part or the mask is unknown, the mask holds the part itself, or there is nothing to ask.
        """
        events, excluded, _ = new_answers(self.split, self.pairs.num_users, part, mask)
        query = ContextQuery(events.user, None if events.time is None else time_context(events.time))
        relevant = RaggedSets(torch.arange(len(events) + 1), events.item)
        return RankingEvaluation(query, relevant, excluded.take(events.user), mask)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """The ranking of all items, event by event."""
        return {"ranking": self.ranking(part, mask)}

    def _context(self, index: Tensor) -> Tensor | None:
        return None if self.context is None else self.context[index]
