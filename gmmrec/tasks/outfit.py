"""Outfit completion: training on outfits with an item left out, fill in the blank, and compatibility."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gmmrec.config import check_choice, check_literals, check_positive
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import TRAIN
from gmmrec.data.ragged import RaggedLists, RaggedSets, windows
from gmmrec.data.reviews import training_texts
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, CompatibilityEvaluation, EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.negatives import UniformNegatives, drawable
from gmmrec.tasks.next_item import Timeline, by_length
from gmmrec.tasks.query import Batch, OutfitQuery

NUM_DISTRACTORS = 3
"""Irrelevant candidates of a drawn blank."""
ATTEMPTS = 100
"""Redraws of rows that contain an item twice."""
SEEDS = {"valid": 1, "test": 2}
"""Seeds of draws for evaluation: the same for every run on the same outfits."""


@dataclass(frozen=True)
class OutfitConfig:
    """Settings of histories and examples, shared by all models that answer an OutfitQuery."""

    max_length: int = 50
    """Maximum length of a user's history; the most recent items are kept."""
    examples: Literal["items", "outfits"] = "items"
    """Training examples: every item of every outfit, or every outfit once, with one of its items drawn as the answer, for models
    that learn all items of an example at once."""

    def __post_init__(self) -> None:
        check_positive(max_length=self.max_length)
        check_literals(self)


class OutfitTask:
    """Training examples and evaluation tasks from the outfits of one split.

    An example is an item of a training outfit: the rest of the outfit is the query, the item the answer. If outfits are made for
    users, queries include their histories: those of the data, or else the user's training interactions; for a training outfit,
    only those before the first of its items. All tensors are on the CPU.

    Args:
        inputs: A split with outfits, sizes, batches, and the settings of the model, which give the length of histories.

    Raises:
        UsageError: There are no outfits, none in the training part, or batches are sampled.
    """

    monitor: ClassVar[str] = "fill_in_the_blank/accuracy"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_items, config, settings = inputs.split, inputs.num_items, inputs.batches, inputs.settings
        if config.sampled:
            raise UsageError("outfit models compare all items and cannot train on sampled subgraphs; set sampled: false")
        if split.outfits is None:
            raise UsageError("the data set has no outfits; choose another model, or a data set with outfits")
        self.split, self.num_users, self.num_items, self.config = split, inputs.num_users, num_items, config
        self._item_order = inputs.item_order
        self.outfits: Outfits = split.outfits
        self._text = self.outfits.text
        if self._text is not None and inputs.reviews is not None:
            self._text = training_texts(inputs.reviews, split).numbered(self._text)
        self.settings = settings if isinstance(settings, OutfitConfig) else OutfitConfig()
        items = self.outfits.items
        if int(items.counts.min()) < 2:
            raise UsageError("an outfit needs at least two items, but found smaller ones; leave them out")
        self._outfit = items.groups  # outfit of every item
        self._examples = torch.nonzero(self.outfits.part[self._outfit] == 0).flatten()
        if not self._examples.numel():
            raise UsageError("the training part has no outfits; expected at least one")
        self.timeline = Timeline(split.train, inputs.num_users)
        no_histories = self.outfits.user is None or self.outfits.history is not None
        self._ends = None if no_histories else self._history_ends()
        pool = num_items if config.negatives_from == "all" else items.values[self._examples]
        self._members = RaggedSets.from_pairs(self._outfit, items.values, len(self.outfits))
        self._negatives, self._remedy = UniformNegatives(self._members, pool), inputs.more_negatives

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        whole = self.settings.examples == "outfits"
        return -(-(self._batched[1] if whole else self._batched[0]).numel() // self.config.batch_size)

    @cached_property
    def _batched(self) -> tuple[Tensor, Tensor]:
        """Examples and training outfits without those outfits that hold all items that negatives are drawn from."""
        kept = drawable(self._negatives, self._outfit[self._examples], owners="outfits", remedy=self._remedy)
        outfits = torch.nonzero(self.outfits.part == TRAIN).flatten()
        return self._examples[kept], outfits[~self._negatives.exhausted(outfits)]

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[OutfitQuery]]]:
        """Yield one epoch: every item of every training outfit once, shuffled, batched by size, with fresh negatives.

        If examples are outfits, each occurs once, with one of its items drawn as the answer. Negatives are never items of the
        outfit. ``text`` describes the outfit.

        Args:
            graph: The graph of this epoch.
            generator: Source of the order and of the negatives.
        """
        (examples, outfits), items = self._batched, self.outfits.items
        if self.settings.examples == "outfits":
            examples = sample_positions(items, outfits, generator)
        for index in by_length(items.counts[self._outfit[examples]], self.config.batch_size, generator):
            position = examples[index]
            outfit = self._outfit[position]
            negative = self._negatives.draw(outfit, self.config.num_negatives, generator)
            text = None if self._text is None else self._text[outfit]
            yield graph, Batch(self.query(outfit, position), self.outfits.items.values[position], negative, text=text)

    def query(self, outfit: Tensor, left_out: Tensor | None = None) -> OutfitQuery:
        """Return outfits ``[B]`` as queries.

        Args:
            outfit: Positions of the outfits ``[B]``.
            left_out: Position of the item to leave out, among all items of all outfits ``[B]``; None to keep all.
        """
        items = self.outfits.items
        first, end = items.indptr[outfit], items.indptr[outfit + 1]
        if left_out is None:
            rows, mask = windows(items.values, first, end, int((end - first).max()))
        else:  # positions of the outfit without the one left out
            position, mask = windows(torch.arange(items.values.numel()), first, end - 1, int((end - first).max()))
            position = position + (position >= left_out[:, None]).long()
            rows = items.values[position].masked_fill(~mask, 0)
        user = torch.full_like(outfit, -1) if self.outfits.user is None else self.outfits.user[outfit]
        return OutfitQuery(user, rows, mask, *self._history(outfit, user))

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[OutfitQuery]:
        """Return the ranking task of one split part: the left-out item of each outfit, drawn with a fixed seed, among all items.

        Args:
            part: Split part of the outfits.
            mask: Ignored: items of the outfit are not ranked, all others are, known to the user or not.

        Raises:
            UsageError: The part is unknown or holds no outfit.
        """
        outfit = self._held_out(part)
        position = self._left_out(outfit, part)
        query = self.query(outfit, position)
        line, column = query.outfit_mask.nonzero(as_tuple=True)
        excluded = RaggedSets.from_pairs(line, query.outfit[line, column], len(outfit))
        relevant = RaggedSets(torch.arange(len(outfit) + 1), self.outfits.items.values[position])
        return RankingEvaluation(query, relevant, excluded, "the outfit", self._item_order)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of all items, fill in the blank, and compatibility."""
        return {
            "ranking": self.ranking(part, mask),
            "fill_in_the_blank": self.fill_in_the_blank(part),
            "compatibility": self.compatibility(part),
        }

    def fill_in_the_blank(self, part: Literal["valid", "test"], *, rounds: int = 0) -> CandidateEvaluation[OutfitQuery]:
        """Return fill in the blank: queries of the data for the test part, else the left-out item among three of other outfits.

        Args:
            part: Split part of the outfits.
            rounds: 0: one item of every outfit, drawn with a fixed seed. Otherwise every item of each outfit, this many times each
                among newly drawn candidates; queries of the data are used as they are.

        Raises:
            UsageError: The part is unknown or holds no outfit.
        """
        outfit, given = self._held_out(part), self.outfits.fill_in_the_blank
        if given is not None and part == "test":
            rows, mask = given.items.last(int(given.items.counts.max()))
            return CandidateEvaluation(self._without_user(rows, mask), given.candidates, given.relevant)
        position, generator = self._left_out(outfit, part), torch.Generator().manual_seed(SEEDS[part])
        if rounds:
            position = torch.nonzero(torch.isin(self._outfit, outfit)).flatten().repeat(rounds)
            outfit = self._outfit[position]
        distractors = _distinct(UniformNegatives(self._members, self._pool(outfit)), outfit, NUM_DISTRACTORS, generator)
        candidates = torch.cat([self.outfits.items.values[position][:, None], distractors], 1)
        label = torch.zeros_like(candidates, dtype=torch.bool)
        label[:, 0] = True
        lists = RaggedLists(torch.arange(len(outfit) + 1) * candidates.shape[1], candidates.flatten())
        return CandidateEvaluation(self.query(outfit, position), lists, label.flatten())

    def compatibility(self, part: Literal["valid", "test"]) -> CompatibilityEvaluation:
        """Return compatibility: the data's outfits for the test part, else each held-out outfit and a random one of its size."""
        outfit, given = self._held_out(part), self.outfits.compatibilities
        if given is not None and part == "test":
            rows, mask = given.items.last(int(given.items.counts.max()))
            return CompatibilityEvaluation(self._without_user(rows, mask), given.label)
        real = self.query(outfit)
        nothing = RaggedSets.from_pairs(outfit[:0], outfit[:0], len(self.outfits))
        generator = torch.Generator().manual_seed(SEEDS[part])
        drawn = _distinct(UniformNegatives(nothing, self._pool(outfit)), outfit, real.outfit.shape[1], generator)
        drawn = drawn.masked_fill(~real.outfit_mask, 0)
        both = real.take(torch.arange(len(outfit)).repeat(2))  # the random outfits keep the users
        return CompatibilityEvaluation(
            replace(both, outfit=torch.cat([real.outfit, drawn])), torch.arange(2 * len(outfit)) < len(outfit)
        )

    def _held_out(self, part: Literal["valid", "test"]) -> Tensor:
        check_choice(("valid", "test"), part=part)
        outfit = torch.nonzero(self.outfits.part == (1 if part == "valid" else 2)).flatten()
        if not outfit.numel():
            raise UsageError(f"the {part} part has no outfits; use another split")
        return outfit

    def _left_out(self, outfit: Tensor, part: Literal["valid", "test"]) -> Tensor:
        """Return the position of one drawn item of every outfit ``[n]`` among all items of all outfits."""
        return sample_positions(self.outfits.items, outfit, torch.Generator().manual_seed(SEEDS[part]))

    def _pool(self, outfit: Tensor) -> Tensor | int:
        """Return the items of these outfits, or all items if these are too few to draw from."""
        pool = torch.unique(self.outfits.items.take(outfit).values)
        return pool if len(pool) >= int(self.outfits.items.counts.max()) + NUM_DISTRACTORS else self.num_items

    def _history_ends(self) -> Tensor:
        """Return the end of the history of every outfit's user in the timeline ``[N]``.

        It follows all training interactions or, for a training outfit, precedes the first one with an item of the outfit.
        """
        assert self.outfits.user is not None
        user, items = self.outfits.user, self.outfits.items
        end = torch.where(user >= 0, self.timeline.ends[user], 0)
        learned = self._examples[user[self._outfit[self._examples]] >= 0]
        keys = self.timeline.user * self.num_items + self.timeline.item
        order = torch.argsort(keys, stable=True)
        pair = user[self._outfit[learned]] * self.num_items + items.values[learned]
        found = torch.searchsorted(keys[order], pair).clamp(max=len(keys) - 1)
        taken = keys[order][found] == pair
        return end.scatter_reduce(0, self._outfit[learned[taken]], order[found[taken]], "amin")

    def _history(self, outfit: Tensor, user: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        if self.outfits.history is not None:
            return self.outfits.history.take(outfit).last(self.settings.max_length)
        if self._ends is None:
            return None, None
        start = torch.where(user >= 0, self.timeline.starts[user], 0)
        return windows(self.timeline.item, start, self._ends[outfit], self.settings.max_length)

    def _without_user(self, rows: Tensor, mask: Tensor) -> OutfitQuery:
        """Return queries without a user; histories are empty, if there are any."""
        user = torch.full((len(rows),), -1)
        if self.outfits.history is None and self._ends is None:
            return OutfitQuery(user, rows, mask)
        nothing = rows.new_zeros(len(rows), 1)
        return OutfitQuery(user, rows, mask, nothing, nothing > 0)


def sample_positions(items: RaggedLists, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one value of each group ``[n]`` and return its position among all values ``[n]``."""
    chance = torch.rand(len(groups), generator=generator, dtype=torch.float64)
    return items.indptr[groups] + (chance * items.counts[groups]).long()


def _distinct(negatives: UniformNegatives, outfit: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw items ``[n, count]`` for outfits ``[n]``, distinct within each row unless ``ATTEMPTS`` redraws fail."""
    drawn = negatives.draw(outfit, count, generator)
    for _ in range(ATTEMPTS):
        again = (drawn.sort(dim=1).values.diff(dim=1) == 0).any(1)
        if not bool(again.any()):
            break
        drawn[again] = negatives.draw(outfit[again], count, generator)
    return drawn
