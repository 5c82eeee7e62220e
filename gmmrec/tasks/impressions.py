"""What of all that was shown will be clicked: the task of learning from, and being asked about, impressions."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists, RaggedSets, windows
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import known_items
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import HistoryConfig, by_length
from gmmrec.tasks.query import Batch, HistoryQuery


class ImpressionTask:
    """Training examples and questions of one split, made of what people were shown.

    An example is a click of a training impression, with what its user had clicked before; its negatives were shown beside it and
    not clicked. A question is a held-out impression. What is told comes from the impression itself (``Impressions.history``), so
    that nothing of other impressions or other users enters it. Training impressions with nothing to compare (all was clicked), or
    with an empty history, are no examples.

    Args:
        inputs: A split with impressions, sizes, batches (``num_negatives`` are drawn for every click), and the settings of the
            model, which say how long histories are.

    Raises:
        ValueError: There are no impressions, no training impression to learn from, or batches are to be sampled.
    """

    monitor: ClassVar[str] = "impressions/auc"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_users, num_items, config = inputs.split, inputs.num_users, inputs.num_items, inputs.batches
        if config.sampled:
            raise ValueError("models that are asked with histories read all items, so they cannot learn with sampled: true")
        if split.impressions is None:
            raise ValueError("the data set has no impressions to learn from; choose a data set that tells what people were shown")
        self.split, self.num_users, self.num_items, self.config = split, num_users, num_items, config
        self.settings = inputs.settings if isinstance(inputs.settings, HistoryConfig) else HistoryConfig()
        self.impressions = split.impressions
        shown, clicked = self.impressions.shown, self.impressions.clicked
        impression = shown.groups  # of every item shown
        taken = RaggedSets.from_pairs(impression[clicked], shown.values[clicked], len(shown))
        passed = ~taken.contains(impression, shown.values)  # an item that is shown twice is clicked if one of the two is
        self._passed = RaggedLists.from_groups(impression[passed], shown.values[passed], len(shown))
        lengths = self.impressions.history.counts
        usable = (self.impressions.part == TRAIN) & (self._passed.counts > 0) & (lengths > 0)
        self._examples = torch.nonzero(usable[taken.groups]).flatten()
        if not self._examples.numel():
            raise ValueError(
                "no training impression has a history, a click and something that was not clicked; expected one at least"
            )
        self._impression, self._item = taken.groups[self._examples], taken.values[self._examples]
        self._lengths = lengths[self._impression].clamp(max=self.settings.max_length)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-self._examples.numel() // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[HistoryQuery]]]:
        """One epoch: every click once, shuffled, examples of like length together, with freshly drawn negatives.

        A batch is as wide as its longest history.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        for index in by_length(self._lengths, self.config.batch_size, generator):
            impression = self._impression[index]
            negative = draw(self._passed.take(impression), self.config.num_negatives, generator)
            yield graph, Batch(self.query(impression), self._item[index], negative)

    def query(self, impression: Tensor) -> HistoryQuery:
        """Impressions ``[B]`` as questions: who saw them, and what that user had clicked before."""
        history, times = self.impressions.history, self.impressions.history_time
        first, end, length = history.indptr[impression], history.indptr[impression + 1], self.settings.max_length
        items, mask = windows(history.values, first, end, length)
        time = None if times is None else windows(times, first, end, length)[0]
        return HistoryQuery(self.impressions.user[impression], items, mask, time)

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[HistoryQuery]:
        """The clicks of every impression of one part, to be found in the whole catalogue.

        Args:
            part: Which impressions.
            mask: Which items of a user are excluded from ranking; ``none`` where people come back to what they know.

        Raises:
            ValueError: The part or the mask is unknown, the mask holds the part itself, or there is nothing to ask.
        """
        excluded = known_items(self.split, self.num_users, part, mask)
        shown, clicked, user = self.impressions.shown, self.impressions.clicked, self.impressions.user
        impression, item = shown.groups[clicked], shown.values[clicked]
        new = self.impressions.of_part(part)[impression] & ~excluded.contains(user[impression], item)
        if not bool(new.any()):
            raise ValueError(f"no impression of the {part} part has a click that is not in {mask}, so there is nothing to ask")
        relevant = RaggedSets.from_pairs(impression[new], item[new], len(shown))
        asked = torch.nonzero(relevant.counts).flatten()
        return RankingEvaluation(self.query(asked), relevant.take(asked), excluded.take(user[asked]), mask)

    def candidates(self, part: Literal["valid", "test"]) -> CandidateEvaluation[HistoryQuery]:
        """All impressions of one part in which something was clicked and something was not.

        Raises:
            ValueError: There is none.
        """
        asked = self.impressions.telling(part)
        if not asked.numel():
            raise ValueError(f"the {part} part has no impression with a click and something that was not clicked; nothing to ask")
        found = self.impressions.take(asked)
        return CandidateEvaluation(self.query(asked), found.shown, found.clicked)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """The ranking of everything, and the order of what was shown."""
        return {"ranking": self.ranking(part, mask), "impressions": self.candidates(part)}


def draw(lists: RaggedLists, count: int, generator: torch.Generator) -> Tensor:
    """Values ``[G, count]`` of lists, of which none may be empty: all different places, as far as a list has so many, then repeats.

    >>> draw(RaggedLists(torch.tensor([0, 3, 4]), torch.tensor([5, 5, 5, 7])), 2, torch.Generator().manual_seed(0))
    tensor([[5, 5],
            [7, 7]])
    """
    size = lists.counts[:, None]
    width = int(lists.counts.max())
    chance = torch.rand(len(lists), max(width, count), generator=generator)
    absent = torch.arange(chance.shape[1]) >= size
    order = chance.masked_fill(absent, 2.0).argsort(dim=1)[:, :count]  # of n places, those that exist come first
    again = (chance[:, :count] * size).long().clamp(max=size - 1)
    position = torch.where(torch.arange(count) < size, order, again)
    return lists.values[lists.indptr[:-1, None] + position]
