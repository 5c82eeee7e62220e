"""User to items: the task of learning from, and being asked about, who touched what."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice, check_positive
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import Ragged
from gmmrec.data.split import Split
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.negatives import UniformNegatives
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.tasks.questions import Questions


@dataclass(frozen=True)
class CollaborativeConfig:
    """How training batches are made."""

    batch_size: int = 2048
    """Interactions a step."""
    num_negatives: int = 1
    """Items drawn against every interaction."""
    negatives_from: Literal["all", "train"] = "all"
    """Draw them from all items, or only from those that occur in training; never one the user has in training."""

    def __post_init__(self) -> None:
        check_positive(batch_size=self.batch_size, num_negatives=self.num_negatives)
        check_choice(("all", "train"), negatives_from=self.negatives_from)


class CollaborativeTask:
    """Training batches and questions of one split.

    A pair that was logged more than once is one training interaction. Everything is made on the CPU.

    Args:
        split: Training, validation and test interactions.
        num_users: Number of users, with or without interactions.
        num_items: Number of items, with or without interactions.
        config: How batches are made.

    Raises:
        ValueError: There is no training interaction.
    """

    def __init__(self, split: Split, num_users: int, num_items: int, config: CollaborativeConfig = CollaborativeConfig()) -> None:
        if not len(split.train):
            raise ValueError("the training part is empty; expected at least one interaction to learn from")
        self.split, self.num_users, self.num_items, self.config = split, num_users, num_items, config
        self.seen = self._by_user(split.train)
        self._users, self._items = self.seen.groups, self.seen.values
        pool = num_items if config.negatives_from == "all" else self._items
        self._negatives = UniformNegatives(self.seen, pool)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-self._users.numel() // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[UserQuery]]]:
        """One epoch: every training interaction once, shuffled, with fresh negatives, and the graph to learn it on."""
        for user, positive, negative in self._draw(generator):
            yield graph, Batch(UserQuery(user), positive, negative)

    def questions(self, part: Literal["valid", "test"], mask: Literal["train", "train+valid"] = "train") -> Questions[UserQuery]:
        """What is asked of a model: the items of one part, for every user who has any there, in ascending order of users.

        Items that are excluded from ranking are no right answers either (an item a user has both in training and in the test
        part); users who are left with none are not asked.

        Args:
            part: Where the right answers are.
            mask: Which items of a user are excluded from ranking.

        Raises:
            ValueError: The part or the mask is unknown, the mask holds the part itself, or there is nothing to ask.
        """
        check_choice(("valid", "test"), part=part)
        check_choice(("train", "train+valid"), mask=mask)
        if part == "valid" and mask == "train+valid":
            raise ValueError("mask 'train+valid' would exclude every right answer of part 'valid'; use mask 'train'")
        excluded = self.seen
        if mask == "train+valid":
            user = torch.cat([self.split.train.user, self.split.valid.user])
            item = torch.cat([self.split.train.item, self.split.valid.item])
            excluded = Ragged.from_pairs(user, item, self.num_users)
        answers: Interactions = getattr(self.split, part)
        new = ~excluded.contains(answers.user, answers.item)
        if not bool(new.any()):
            raise ValueError(f"the {part} part holds no item that its user does not have in {mask}, so there is nothing to ask")
        relevant = self._by_user(answers.take(new))
        asked = torch.nonzero(relevant.counts).flatten()
        return Questions(UserQuery(asked), relevant.take(asked), excluded.take(asked), mask)

    def _by_user(self, interactions: Interactions) -> Ragged:
        return Ragged.from_pairs(interactions.user, interactions.item, self.num_users)

    def _draw(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Users ``[B]``, positives ``[B]`` and negatives ``[B, K]`` of an epoch."""
        order = torch.randperm(self._users.numel(), generator=generator)
        for index in order.split(self.config.batch_size):
            user = self._users[index]
            yield user, self._items[index], self._negatives.draw(user, count=self.config.num_negatives, generator=generator)
