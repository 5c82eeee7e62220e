"""Who rates what, and how: the task of predicting ratings."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import training_texts
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.tasks.collaborative import CollaborativeTask, fork_generator
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation, RatingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.typing import ITEM, USER


class RatingTask:
    """Training batches with ratings, held-out ratings to be predicted, and the usual questions, ranked by predicted rating.

    Of a pair that was rated more than once in training, the first rating counts. Everything is made on the CPU.

    Args:
        inputs: A split with ratings, sizes, batches (no negatives are drawn) and reviews: where there are any, batches hold what
            the user wrote about the positive.

    Raises:
        ValueError: There are no training interactions, or they have no ratings.
    """

    monitor: ClassVar[str] = "rmse"

    def __init__(self, inputs: TaskInputs) -> None:
        split = inputs.split
        if split.train.weight is None:
            raise ValueError("the interactions have no ratings to predict; set weight_column, or choose a model that ranks")
        self.split, self.config = split, inputs.batches
        self._ranking = CollaborativeTask(replace(inputs, reviews=None))
        self._train = split.train.distinct()
        self._text = training_texts(inputs.reviews, self._train)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self._train) // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[RatingQuery]]]:
        """One epoch: every training pair once, shuffled, with its rating and no negatives, and the graph to learn it on.

        Sampled mode makes the same batches from the same generator, and numbers users and items as their subgraph does.

        Args:
            graph: The graph of this epoch; on the CPU in sampled mode.
            generator: Source of the order and of the neighbours.
        """
        order = torch.randperm(len(self._train), generator=generator).split(self.config.batch_size)
        neighbours = fork_generator(generator) if self.config.sampled else generator
        for index in order:
            part, user, item = graph, self._train.user[index], self._train.item[index]
            if self.config.sampled:
                part, positions = sample_subgraph(graph, {USER: user, ITEM: item}, self.config.num_neighbors, neighbours)
                user, item = positions[USER], positions[ITEM]
            nothing = item.new_empty(len(item), 0)
            text = None if self._text is None else self._text[index]
            yield part, Batch(RatingQuery(user), item, nothing, _ratings(self._train)[index], text)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[RatingQuery]:
        """Which items of the part a user rated, however well: see :meth:`CollaborativeTask.ranking`."""
        asked = self._ranking.ranking(part, mask)
        return RankingEvaluation(RatingQuery(asked.query.user), asked.relevant, asked.excluded, asked.masked)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """The ranking of all items, and the ratings to be predicted."""
        return {"ranking": self.ranking(part, mask), "rating": self.ratings(part)}

    def ratings(self, part: Literal["valid", "test"]) -> RatingEvaluation[RatingQuery]:
        """All ratings of one part, in the order of its interactions.

        Raises:
            ValueError: The part is unknown or empty.
        """
        check_choice(("valid", "test"), part=part)
        held_out = self.split.part(part)
        if not len(held_out):
            raise ValueError(f"the {part} part holds no rating, so there is nothing to predict")
        known = _ratings(self._train)
        bounds = float(known.min()), float(known.max())
        return RatingEvaluation(RatingQuery(held_out.user), held_out.item, _ratings(held_out), bounds)


def _ratings(log: Interactions) -> Tensor:
    assert log.weight is not None
    return log.weight
