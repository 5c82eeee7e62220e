"""Rating prediction."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import training_texts
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.tasks.collaborative import CollaborativeTask, fork_generator
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation, RatingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.typing import ITEM, USER


class RatingTask:
    """Training batches with ratings, held-out ratings to predict, and rankings by predicted rating.

    If a pair was rated more than once in training, the first rating counts. All tensors are on the CPU.

    Args:
        inputs: A split with ratings, sizes, batches (no negatives are drawn) and reviews: if given, batches hold the user's review
            of the positive.

    Raises:
        UsageError: There are no training interactions, or they have no ratings.
    """

    monitor: ClassVar[str] = "rmse"

    def __init__(self, inputs: TaskInputs) -> None:
        split = inputs.split
        if split.train.weight is None:
            raise UsageError("the interactions have no ratings to predict; set weight_column, or choose a model that ranks")
        self.split, self.config = split, inputs.batches
        self._ranking = CollaborativeTask(replace(inputs, reviews=None))
        self._train = split.train.distinct()
        self._text = training_texts(inputs.reviews, split).about(self._train)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-len(self._train) // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[RatingQuery]]]:
        """Yield one epoch: every training pair once, shuffled, with its rating and no negatives, and the graph to train on.

        Sampled mode yields the same batches from the same generator, with users and items numbered as in their subgraph.

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
        """Return the ranking of the items each user rated in a part, whatever the rating; see :meth:`CollaborativeTask.ranking`."""
        ranking = self._ranking.ranking(part, mask)
        sets = (ranking.relevant, ranking.excluded, ranking.masked, ranking.id_order)
        return RankingEvaluation(RatingQuery(ranking.query.user), *sets)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of all items and the ratings to predict."""
        return {"ranking": self.ranking(part, mask), "rating": self.ratings(part)}

    def ratings(self, part: Literal["valid", "test"]) -> RatingEvaluation[RatingQuery]:
        """Return all ratings of one part, in the order of its interactions.

        Raises:
            UsageError: The part is unknown or empty.
        """
        check_choice(("valid", "test"), part=part)
        held_out = self.split.part(part)
        if not len(held_out):
            raise UsageError(f"the {part} part has no ratings to predict; use another split")
        known = _ratings(self._train)
        bounds = float(known.min()), float(known.max())
        return RatingEvaluation(RatingQuery(held_out.user), held_out.item, _ratings(held_out), bounds)


def _ratings(log: Interactions) -> Tensor:
    assert log.weight is not None
    return log.weight
