"""Link prediction: training on the triples of a knowledge graph, and rankings of all entities for a missing end."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.parts import TRAIN, SplitPart
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import EvaluationTask, LinkPredictionEvaluation, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.negatives import UniformNegatives, drawable
from gmmrec.tasks.query import Batch, LinkPredictionQuery
from gmmrec.typing import ENTITY


class LinkPredictionTask:
    """Training batches and evaluation tasks from the triples of a split, each read in both directions.

    A triple (h, r, t) gives two queries: t, given h and r, and h, given t and the inverse of r (``r + R``). Every training triple
    is learned twice per epoch, once from each end. Users and items are not used.

    Args:
        inputs: A split with triples, and batches: negatives are drawn from all entities.

    Raises:
        UsageError: There are no triples, none in the training part, or batches are sampled.
    """

    monitor: ClassVar[str] = "link_prediction/mrr"

    def __init__(self, inputs: TaskInputs) -> None:
        triples, config = inputs.split.triples, inputs.batches
        if triples is None or not bool((triples.part == TRAIN).any()):
            raise UsageError("the data set has no training triples; add triples.csv with the columns head, relation and tail")
        if config.sampled:
            raise UsageError("link-prediction models compare all entities and cannot train on subgraphs; set sampled: false")
        self.config, self.num_relations = config, triples.num_relations
        self.part = triples.part.repeat(2)
        self.query = LinkPredictionQuery(
            torch.cat([triples.head, triples.tail]), torch.cat([triples.relation, triples.relation + triples.num_relations])
        )
        self.answer = torch.cat([triples.tail, triples.head])
        keys = self.query.head * 2 * self.num_relations + self.query.relation
        distinct, self._query_of = keys.unique(return_inverse=True)  # several triples share a query
        self._known = RaggedSets.from_pairs(self._query_of, self.answer, len(distinct))
        self._train = torch.nonzero(self.part == TRAIN).flatten()
        self._kept: Tensor | None = None  # training triples for which negatives can be drawn, found when training begins
        self._learned = RaggedLists.from_groups(self._query_of[self._train], self.answer[self._train], len(distinct))

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-(self._train if self._kept is None else self._kept).numel() // self.config.batch_size)

    def batches(
        self, graph: MultimodalGraph, generator: torch.Generator
    ) -> Iterator[tuple[MultimodalGraph, Batch[LinkPredictionQuery]]]:
        """Yield one epoch: every training triple from both ends, shuffled, with fresh negatives and all training answers.

        Negatives are never training answers of the query.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        seen = RaggedSets.from_pairs(self._learned.groups, self._learned.values, len(self._learned))
        negatives = UniformNegatives(seen, graph.num_nodes(ENTITY))
        if self._kept is None:
            self._kept = drawable(negatives, self._query_of[self._train], owners="queries")
        shuffled = self._kept[torch.randperm(self._kept.numel(), generator=generator)]
        for index in self._train[shuffled].split(self.config.batch_size):
            query = self._query_of[index]
            negative = negatives.draw(query, self.config.num_negatives, generator)
            learned = self._learned.take(query)
            answers = torch.stack([learned.groups, learned.values], dim=1)
            yield graph, Batch(self.query.take(index), self.answer[index], negative, answers=answers)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[LinkPredictionQuery]:
        """Return every distinct query of one part with all its answers there; answers from other parts are not ranked.

        Raises:
            UsageError: The part is unknown or empty.
        """
        index = self._positions(part)
        query, first = self._query_of[index].unique(return_inverse=True)
        relevant = RaggedSets.from_pairs(first, self.answer[index], len(query))
        example = torch.empty_like(query).scatter_(0, first, index)
        known = self._known.take(query)
        other = ~relevant.contains(known.groups, known.values)
        excluded = RaggedSets.from_pairs(known.groups[other], known.values[other], len(query))
        return RankingEvaluation(self.query.take(example), relevant, excluded, "train+valid")

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the triples of one part from both ends: first the queries for tails, then those for heads.

        All other true answers, from all parts, are left out of each ranking, regardless of ``mask``.
        """
        index = self._positions(part)
        known = self._known.take(self._query_of[index])
        backwards = self.query.relation[index] >= self.num_relations
        return {"link_prediction": LinkPredictionEvaluation(self.query.take(index), self.answer[index], known, backwards)}

    def _positions(self, part: Literal["valid", "test"]) -> Tensor:
        check_choice(("valid", "test"), part=part)
        index = torch.nonzero(self.part == SplitPart(part).code).flatten()
        if not index.numel():
            raise UsageError(f"the {part} part has no triples; set split.triples to a share greater than 0")
        return index
