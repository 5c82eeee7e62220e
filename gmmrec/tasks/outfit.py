"""What completes an outfit: the task of learning from, and being asked about, sets of items."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice, check_literals, check_positive
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists, RaggedSets, windows
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, CompatibilityEvaluation, EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.negatives import UniformNegatives
from gmmrec.tasks.next_item import Timeline, by_length
from gmmrec.tasks.query import Batch, OutfitQuery

WRONG = 3
"""Wrong candidates of a blank that is drawn."""
ATTEMPTS = 100
"""How often rows that hold an item twice are drawn anew."""
SEEDS = {"valid": 1, "test": 2}
"""Of what is drawn for evaluation: the same for every run on the same outfits."""


@dataclass(frozen=True)
class OutfitConfig:
    """How much of a user's past a model is told; the settings of every model that answers an OutfitQuery begin with these."""

    max_length: int = 50
    """Items of a user's history at most; the newest are kept."""
    examples: Literal["items", "outfits"] = "items"
    """Whether every item of a training outfit is an example, or every outfit, with one of its items in turn: for models that learn
    all items of an example at once."""

    def __post_init__(self) -> None:
        check_positive(max_length=self.max_length)
        check_literals(self)


class OutfitTask:
    """Training examples and questions about the outfits of one split.

    An example is an item of a training outfit: what is left of the outfit is the question, the item the answer. Where outfits are
    made for users, the question tells their histories: those that come with the data, else the user's training interactions; of a
    training outfit, only those before the first of its own items. Everything is made on the CPU.

    Args:
        inputs: A split with outfits, sizes, batches, and the settings of the model, which say how long histories are.

    Raises:
        ValueError: There are no outfits, none in the training part, or batches are to be sampled.
    """

    monitor: ClassVar[str] = "fill_in_the_blank/accuracy"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_items, config, settings = inputs.split, inputs.num_items, inputs.batches, inputs.settings
        if config.sampled:
            raise ValueError("models that complete outfits compare all items, so they cannot learn with sampled: true")
        if split.outfits is None:
            raise ValueError("the data set has no outfits to learn from; choose a model for users, or a data set with outfits")
        self.split, self.num_users, self.num_items, self.config = split, inputs.num_users, num_items, config
        self.outfits: Outfits = split.outfits
        self.settings = settings if isinstance(settings, OutfitConfig) else OutfitConfig()
        items = self.outfits.items
        if int(items.counts.min()) < 2:
            raise ValueError("an outfit needs at least two items, but there are smaller ones; leave them out")
        self._outfit = items.groups  # of every item of every outfit
        self._examples = torch.nonzero(self.outfits.part[self._outfit] == 0).flatten()
        if not self._examples.numel():
            raise ValueError("no outfit is in the training part; expected at least one to learn from")
        self.timeline = Timeline(split.train, inputs.num_users)
        no_histories = self.outfits.user is None or self.outfits.history is not None
        self._ends = None if no_histories else self._history_ends()
        pool = num_items if config.negatives_from == "all" else items.values[self._examples]
        self._members = RaggedSets.from_pairs(self._outfit, items.values, len(self.outfits))
        self._negatives = UniformNegatives(self._members, pool)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        whole = self.settings.examples == "outfits"
        return -(-(int((self.outfits.part == TRAIN).sum()) if whole else self._examples.numel()) // self.config.batch_size)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[OutfitQuery]]]:
        """One epoch: every item of every training outfit once, shuffled, outfits of like size together, with fresh negatives.

        Where examples are outfits, each comes once, and one of its items is drawn to be the answer. Negatives are never items of
        the outfit. ``text`` is what was written about the outfit.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        examples, items = self._examples, self.outfits.items
        if self.settings.examples == "outfits":
            examples = sample_positions(items, torch.nonzero(self.outfits.part == TRAIN).flatten(), generator)
        for index in by_length(items.counts[self._outfit[examples]], self.config.batch_size, generator):
            position = examples[index]
            outfit = self._outfit[position]
            negative = self._negatives.draw(outfit, self.config.num_negatives, generator)
            text = None if self.outfits.text is None else self.outfits.text[outfit]
            yield graph, Batch(self.query(outfit, position), self.outfits.items.values[position], negative, text=text)

    def query(self, outfit: Tensor, left_out: Tensor | None = None) -> OutfitQuery:
        """Outfits ``[B]`` as questions.

        Args:
            outfit: Which.
            left_out: Place among all items of all outfits ``[B]`` of the item that is not told; None to tell all.
        """
        items = self.outfits.items
        first, end = items.indptr[outfit], items.indptr[outfit + 1]
        if left_out is None:
            rows, mask = windows(items.values, first, end, int((end - first).max()))
        else:  # the places of the outfit without one
            position, mask = windows(torch.arange(items.values.numel()), first, end - 1, int((end - first).max()))
            position = position + (position >= left_out[:, None]).long()
            rows = items.values[position].masked_fill(~mask, 0)
        user = torch.full_like(outfit, -1) if self.outfits.user is None else self.outfits.user[outfit]
        return OutfitQuery(user, rows, mask, *self._history(outfit, user))

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[OutfitQuery]:
        """Which item of the whole catalogue completes each held-out outfit; the one left out is drawn with a fixed seed.

        Args:
            part: Where the outfits are.
            mask: Nothing is read of it: items of the outfit are not ranked, all others are, known to the user or not.

        Raises:
            ValueError: The part is unknown or holds no outfit.
        """
        outfit = self._held_out(part)
        position = self._drawn(outfit, part)
        query = self.query(outfit, position)
        line, column = query.outfit_mask.nonzero(as_tuple=True)
        excluded = RaggedSets.from_pairs(line, query.outfit[line, column], len(outfit))
        relevant = RaggedSets(torch.arange(len(outfit) + 1), self.outfits.items.values[position])
        return RankingEvaluation(query, relevant, excluded, "the outfit")

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """The ranking, blanks to be filled in, and sets to be told from random ones."""
        return {
            "ranking": self.ranking(part, mask),
            "fill_in_the_blank": self.fill_in_the_blank(part),
            "compatibility": self.compatibility(part),
        }

    def fill_in_the_blank(self, part: Literal["valid", "test"], *, rounds: int = 0) -> CandidateEvaluation[OutfitQuery]:
        """Fill in the blank: the questions of the data for the test part, else the left-out item against three of other outfits.

        Args:
            part: Where the outfits are.
            rounds: 0: one item of every outfit, drawn with a fixed seed. Else every item of every outfit in turn, each so many
                times beside others; questions of the data are asked as they are.

        Raises:
            ValueError: The part is unknown or holds no outfit.
        """
        outfit, given = self._held_out(part), self.outfits.blanks
        if given is not None and part == "test":
            rows, mask = given.items.last(int(given.items.counts.max()))
            return CandidateEvaluation(self._for_nobody(rows, mask), given.candidates, given.right)
        position, generator = self._drawn(outfit, part), torch.Generator().manual_seed(SEEDS[part])
        if rounds:
            position = torch.nonzero(torch.isin(self._outfit, outfit)).flatten().repeat(rounds)
            outfit = self._outfit[position]
        wrong = _distinct(UniformNegatives(self._members, self._pool(outfit)), outfit, WRONG, generator)
        candidates = torch.cat([self.outfits.items.values[position][:, None], wrong], 1)
        right = torch.zeros_like(candidates, dtype=torch.bool)
        right[:, 0] = True
        lists = RaggedLists(torch.arange(len(outfit) + 1) * candidates.shape[1], candidates.flatten())
        return CandidateEvaluation(self.query(outfit, position), lists, right.flatten())

    def compatibility(self, part: Literal["valid", "test"]) -> CompatibilityEvaluation:
        """Sets to be judged: those of the data for the test part, else every held-out outfit and a random one of its size."""
        outfit, given = self._held_out(part), self.outfits.compatibilities
        if given is not None and part == "test":
            rows, mask = given.items.last(int(given.items.counts.max()))
            return CompatibilityEvaluation(self._for_nobody(rows, mask), given.real)
        real = self.query(outfit)
        nothing = RaggedSets.from_pairs(outfit[:0], outfit[:0], len(self.outfits))
        generator = torch.Generator().manual_seed(SEEDS[part])
        drawn = _distinct(UniformNegatives(nothing, self._pool(outfit)), outfit, real.outfit.shape[1], generator)
        drawn = drawn.masked_fill(~real.outfit_mask, 0)
        both = real.take(torch.arange(len(outfit)).repeat(2))  # the random ones are for the same users
        return CompatibilityEvaluation(
            replace(both, outfit=torch.cat([real.outfit, drawn])), torch.arange(2 * len(outfit)) < len(outfit)
        )

    def _held_out(self, part: Literal["valid", "test"]) -> Tensor:
        check_choice(("valid", "test"), part=part)
        outfit = torch.nonzero(self.outfits.part == (1 if part == "valid" else 2)).flatten()
        if not outfit.numel():
            raise ValueError(f"the {part} part holds no outfit, so there is nothing to ask")
        return outfit

    def _drawn(self, outfit: Tensor, part: Literal["valid", "test"]) -> Tensor:
        """Place of one item of every outfit ``[n]`` among all items of all outfits."""
        return sample_positions(self.outfits.items, outfit, torch.Generator().manual_seed(SEEDS[part]))

    def _pool(self, outfit: Tensor) -> Tensor | int:
        """The items of these outfits; all there are where these are so few that an outfit leaves none to draw."""
        pool = torch.unique(self.outfits.items.take(outfit).values)
        return pool if len(pool) >= int(self.outfits.items.counts.max()) + WRONG else self.num_items

    def _history_ends(self) -> Tensor:
        """Where in the timeline the history of every outfit's user ends ``[N]``.

        That is behind all training interactions, but for training outfits before the first one with an item of the outfit.
        """
        assert self.outfits.user is not None
        user, items = self.outfits.user, self.outfits.items
        end = torch.where(user >= 0, self.timeline.ends[user], 0)
        learned = self._examples[user[self._outfit[self._examples]] >= 0]
        keys = self.timeline.user * self.num_items + self.timeline.item
        order = torch.argsort(keys, stable=True)
        wanted = user[self._outfit[learned]] * self.num_items + items.values[learned]
        found = torch.searchsorted(keys[order], wanted).clamp(max=len(keys) - 1)
        taken = keys[order][found] == wanted
        return end.scatter_reduce(0, self._outfit[learned[taken]], order[found[taken]], "amin")

    def _history(self, outfit: Tensor, user: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        if self.outfits.history is not None:
            return self.outfits.history.take(outfit).last(self.settings.max_length)
        if self._ends is None:
            return None, None
        start = torch.where(user >= 0, self.timeline.starts[user], 0)
        return windows(self.timeline.item, start, self._ends[outfit], self.settings.max_length)

    def _for_nobody(self, rows: Tensor, mask: Tensor) -> OutfitQuery:
        """Questions of the data, which name no user; histories are empty where the model is told any."""
        user = torch.full((len(rows),), -1)
        if self.outfits.history is None and self._ends is None:
            return OutfitQuery(user, rows, mask)
        nothing = rows.new_zeros(len(rows), 1)
        return OutfitQuery(user, rows, mask, nothing, nothing > 0)


def sample_positions(items: RaggedLists, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Where one value of each group ``[n]``, drawn at random, stands among all values ``[n]``."""
    chance = torch.rand(len(groups), generator=generator, dtype=torch.float64)
    return items.indptr[groups] + (chance * items.counts[groups]).long()


def _distinct(negatives: UniformNegatives, outfit: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Items ``[n, count]`` for outfits ``[n]``, none twice in a row, as far as many attempts can make it so."""
    drawn = negatives.draw(outfit, count, generator)
    for _ in range(ATTEMPTS):
        again = (drawn.sort(dim=1).values.diff(dim=1) == 0).any(1)
        if not bool(again.any()):
            break
        drawn[again] = negatives.draw(outfit[again], count, generator)
    return drawn
