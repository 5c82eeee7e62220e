"""Who rates what, and how: the task of predicting ratings."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import Reviews, training_texts
from gmmrec.data.split import Split
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import sample_subgraph
from gmmrec.tasks.collaborative import DEFAULT, CollaborativeConfig, CollaborativeTask, apart
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.tasks.questions import Exam, Mask, Questions, Ratings
from gmmrec.typing import ITEM, USER


class RatingTask:
    """Training batches with ratings, held-out ratings to be predicted, and the usual questions, ranked by predicted rating.

    Of a pair that was rated more than once in training, the first rating counts. Everything is made on the CPU.

    Args:
        split: Training, validation and test interactions, with ratings.
        num_users: Number of users, with or without interactions.
        num_items: Number of items, with or without interactions.
        config: How batches are made; negatives are not drawn.
        reviews: What was written; batches then hold what the user wrote about the positive.
        settings: Those of the model; nothing is read of them.

    Raises:
        ValueError: There are no training interactions, or they have no ratings.
    """

    monitor: ClassVar[str] = "rmse"

    def __init__(
        self,
        split: Split,
        num_users: int,
        num_items: int,
        config: CollaborativeConfig = DEFAULT,
        reviews: Reviews | None = None,
        settings: Any = None,
    ) -> None:
        if split.train.weight is None:
            raise ValueError("the interactions have no ratings to predict; set weight_column, or choose a model that ranks")
        self.split, self.config = split, config
        self._ranking = CollaborativeTask(split, num_users, num_items, config)
        self._train = split.train.distinct()
        self._text = training_texts(reviews, self._train)

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
        neighbours = apart(generator) if self.config.sampled else generator
        for index in order:
            part, user, item = graph, self._train.user[index], self._train.item[index]
            if self.config.sampled:
                part, places = sample_subgraph(graph, {USER: user, ITEM: item}, self.config.num_neighbors, neighbours)
                user, item = places[USER], places[ITEM]
            nothing = item.new_empty(len(item), 0)
            text = None if self._text is None else self._text[index]
            yield part, Batch(RatingQuery(user), item, nothing, _ratings(self._train)[index], text)

    def questions(self, part: Literal["valid", "test"], mask: Mask = "train") -> Questions[RatingQuery]:
        """Which items of the part a user rated, however well: see :meth:`CollaborativeTask.questions`."""
        asked = self._ranking.questions(part, mask)
        return Questions(RatingQuery(asked.query.user), asked.relevant, asked.excluded, asked.masked)

    def exams(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, Exam]:
        """The ranking of all items, and the ratings to be predicted."""
        return {"ranking": self.questions(part, mask), "ratings": self.ratings(part)}

    def ratings(self, part: Literal["valid", "test"]) -> Ratings[RatingQuery]:
        """All ratings of one part, in the order of its interactions.

        Raises:
            ValueError: The part is unknown or empty.
        """
        check_choice(("valid", "test"), part=part)
        held_out: Interactions = getattr(self.split, part)
        if not len(held_out):
            raise ValueError(f"the {part} part holds no rating, so there is nothing to predict")
        known = _ratings(self._train)
        bounds = float(known.min()), float(known.max())
        return Ratings(RatingQuery(held_out.user), held_out.item, _ratings(held_out), bounds)


def _ratings(log: Interactions) -> Tensor:
    assert log.weight is not None
    return log.weight
