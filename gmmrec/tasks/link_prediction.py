"""Facts with a hidden end: the task of learning from a knowledge graph, and of being asked what stands in a relation to what."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.parts import TRAIN, SplitPart
from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import EvaluationTask, LinkPredictionEvaluation, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.negatives import UniformNegatives
from gmmrec.tasks.query import Batch, LinkPredictionQuery
from gmmrec.typing import ENTITY


class LinkPredictionTask:
    """Training batches and questions from the facts of a split, each read in both directions.

    A fact (h, r, t) asks for t, given h and r, and for h, given t and r backwards (``r + R``). Every training fact is learned twice
    an epoch, once from each end. Users and items play no part.

    Args:
        inputs: A split with triples, and batches: negatives are drawn from all entities.

    Raises:
        ValueError: There are no facts, or none to learn from, or batches are to be sampled.
    """

    monitor: ClassVar[str] = "link_prediction/mrr"

    def __init__(self, inputs: TaskInputs) -> None:
        triples, config = inputs.split.triples, inputs.batches
        if triples is None or not bool((triples.part == TRAIN).any()):
            raise ValueError("the data set has no facts to learn from; add triples.csv with the columns head, relation and tail")
        if config.sampled:
            raise ValueError("models of facts compare all entities, so they cannot learn with sampled: true")
        self.config, self.num_relations = config, triples.num_relations
        self.part = triples.part.repeat(2)
        self.query = LinkPredictionQuery(
            torch.cat([triples.head, triples.tail]), torch.cat([triples.relation, triples.relation + triples.num_relations])
        )
        self.answer = torch.cat([triples.tail, triples.head])
        keys = self.query.head * 2 * self.num_relations + self.query.relation
        distinct, self._question = keys.unique(return_inverse=True)  # the same question, asked by several facts
        self._known = RaggedSets.from_pairs(self._question, self.answer, len(distinct))
        self._train = torch.nonzero(self.part == TRAIN).flatten()
        self._learned = RaggedLists.from_groups(self._question[self._train], self.answer[self._train], len(distinct))

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-self._train.numel() // self.config.batch_size)

    def batches(
        self, graph: MultimodalGraph, generator: torch.Generator
    ) -> Iterator[tuple[MultimodalGraph, Batch[LinkPredictionQuery]]]:
        """One epoch: every training fact from both ends, shuffled, with fresh negatives and all answers that training knows.

        Negatives are never answers that training knows.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        seen = RaggedSets.from_pairs(self._learned.groups, self._learned.values, len(self._learned))
        negatives = UniformNegatives(seen, graph.num_nodes(ENTITY))
        for position in torch.randperm(self._train.numel(), generator=generator).split(self.config.batch_size):
            index = self._train[position]
            question = self._question[index]
            negative = negatives.draw(question, self.config.num_negatives, generator)
            learned = self._learned.take(question)
            answers = torch.stack([learned.groups, learned.values], dim=1)
            yield graph, Batch(self.query.take(index), self.answer[index], negative, answers=answers)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[LinkPredictionQuery]:
        """Every distinct question of one part, with all its answers there; those that other parts know are not ranked.

        Raises:
            ValueError: The part is unknown or empty.
        """
        index = self._asked(part)
        question, first = self._question[index].unique(return_inverse=True)
        relevant = RaggedSets.from_pairs(first, self.answer[index], len(question))
        example = torch.empty_like(question).scatter_(0, first, index)
        known = self._known.take(question)
        other = ~relevant.contains(known.groups, known.values)
        excluded = RaggedSets.from_pairs(known.groups[other], known.values[other], len(question))
        return RankingEvaluation(self.query.take(example), relevant, excluded, "train+valid")

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """The facts of one part, from both ends: first all tails are asked for, then all heads.

        All right answers of all parts but the one in question are left out of its ranking, whatever ``mask`` says.
        """
        index = self._asked(part)
        known = self._known.take(self._question[index])
        backwards = self.query.relation[index] >= self.num_relations
        return {"link_prediction": LinkPredictionEvaluation(self.query.take(index), self.answer[index], known, backwards)}

    def _asked(self, part: Literal["valid", "test"]) -> Tensor:
        check_choice(("valid", "test"), part=part)
        index = torch.nonzero(self.part == SplitPart(part).code).flatten()
        if not index.numel():
            raise ValueError(
                f"the {part} part holds no fact, so there is nothing to ask; set split.facts to a share greater than 0"
            )
        return index
