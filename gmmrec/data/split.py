"""Splits: pure functions from interactions to train, validation and test parts over the same vocabularies.

A strategy gives every interaction its part ``[E]``, a code of :class:`~gmmrec.data.parts.SplitPart`; :func:`split_dataset` chooses
and applies one.
"""

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from gmmrec.config import check_literals, check_positive
from gmmrec.data.dataset import Dataset
from gmmrec.data.errors import DataError
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import GIVEN_PARTS, SUPPORT, TEST, TRAIN, VALID, SplitPart
from gmmrec.data.triples import Triples

logger = logging.getLogger(__name__)

Strategy = Literal["auto", "given", "random", "leave_last_out", "by_time", "cold_items", "cold_users"]


@dataclass(frozen=True)
class Split:
    """Three parts of one log. Graphs see ``train`` only; ``valid`` selects; ``test`` reports.

    Some splits have a fourth, the ``support``: what is known of the people who are asked about, but never trained on.
    Impressions, outfits and triples, where there are any, say themselves which part each of them belongs to; facts without
    parts are divided at random.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    impressions: Impressions | None = None
    outfits: Outfits | None = None
    triples: Triples | None = None
    support: Interactions | None = None

    @property
    def past(self) -> list[Interactions]:
        """What is known before the first question: the training part and, where there is one, the support."""
        return [self.train] if self.support is None else [self.train, self.support]

    def part(self, part: SplitPart | str) -> Interactions:
        """The interactions of one part.

        Raises:
            ValueError: There is no part of that name, or this split has no support.

        >>> train, valid, test = (Interactions(torch.tensor([n]), torch.tensor([n])) for n in range(3))
        >>> Split(train, valid, test).part("valid") is valid
        True
        """
        part = SplitPart(part)
        found: Interactions | None = getattr(self, part.value)
        if found is None:
            raise ValueError(f"this split has no {part} part; split with the strategy 'cold_users' to get one")
        return found


@dataclass(frozen=True)
class SplitConfig:
    """How the log is divided."""

    strategy: Strategy = "auto"
    """``given``: the source's own parts; ``random``: per user; ``leave_last_out``: per user, by time; ``by_time``: at two moments;
    ``cold_items``: whole items; ``cold_users``: the last events of whoever came last; ``auto``: given where there is one, else
    random."""
    valid: float = 0.1
    """Share of the log (of the items for ``cold_items``) that selects models; not read by ``cold_users``."""
    test: float = 0.1
    """Share of the log (of the items for ``cold_items``, of the users for ``cold_users``) that results are reported on."""
    facts: float = 0.1
    """Share of the facts of a knowledge graph that validates, and share that tests, where the source gives no parts; 0 keeps all in
    training, for models that only read them."""
    seed: int = 0
    """Seed of the draws; apart from the seed of training, so that runs with other seeds are asked the same questions."""

    def __post_init__(self) -> None:
        check_literals(self)
        check_positive(valid=self.valid, test=self.test)
        if not 0 <= self.facts < 0.5:
            raise ValueError(
                f"facts must be at least 0 and less than 0.5, so that something is left to train on, but is {self.facts}"
            )
        if self.valid + self.test >= 1:
            raise ValueError(f"valid and test must leave something to train on, but add up to {self.valid + self.test:g}")


def split_dataset(dataset: Dataset, config: SplitConfig = SplitConfig(), generator: Generator | None = None) -> Split:
    """Divides a data set's log; users without a training interaction are kept, and reported.

    Args:
        dataset: What to divide.
        config: How.
        generator: Source of the draws of ``random``, ``cold_items`` and of a validation part that is not given.

    Raises:
        DataError: The strategy needs what the data set does not have, or a part is empty.
    """
    if not len(dataset.interactions) and dataset.triples is not None:  # nobody to recommend to: facts alone
        nothing = dataset.interactions
        return Split(nothing, nothing, nothing, triples=assign_parts(dataset.triples, config.facts, generator))
    log, strategy = dataset.interactions, config.strategy
    if strategy == "auto":
        strategy = "random" if dataset.given_split is None else "given"
    if dataset.impressions is not None and strategy != "given":  # or clicks of held-out impressions would train
        raise DataError(f"impressions of {dataset.name} have parts of their own; choose 'given' instead of split {strategy!r}")
    if strategy == "given":
        if dataset.given_split is None:
            raise DataError(f"{dataset.name} gives no split; choose another strategy, such as 'random'")
        part = complete(log, dataset.given_split, config.valid, generator)
    elif strategy == "random":
        part = random(log, config.valid, config.test, generator)
    elif strategy == "leave_last_out":
        part = leave_last_out(_timed(dataset, strategy))
    elif strategy == "by_time":
        part = by_time(_timed(dataset, strategy), config.valid, config.test)
    elif strategy == "cold_users":
        part = cold_users(_timed(dataset, strategy), config.test)
    else:
        part = cold_items(log, config.valid, config.test, generator)
    for name in GIVEN_PARTS:
        if not bool((part == name.code).any()):
            raise DataError(
                f"split {strategy!r} of {dataset.name} ({len(log)} interactions) has an empty {name} part; "
                f"choose another strategy or give it more data"
            )
    train, valid, test = (log.take(part == code) for code in (TRAIN, VALID, TEST))
    triples = None if dataset.triples is None else assign_parts(dataset.triples, config.facts, generator)
    support = log.take(part == SUPPORT) if strategy == "cold_users" else None
    split = Split(train, valid, test, dataset.impressions, dataset.outfits, triples, support)
    trained = torch.bincount(split.train.user, minlength=dataset.num_users) > 0
    unseen = torch.unique(torch.cat([split.valid.user, split.test.user]))
    unseen = unseen[~trained[unseen]]
    if len(unseen):
        example = dataset.vocabularies["user"].ids(unseen[:1])[0]
        logger.warning(
            "%d users, such as %r, are in valid or test but never in train: their results are those of cold users",
            len(unseen),
            example,
        )
    return split


def random(log: Interactions, valid: float, test: float, generator: Generator | None = None) -> Tensor:
    """Parts ``[E]`` drawn per user, repeated pairs together.

    Of ``n`` distinct items, ``int((valid + test) n)`` are held out; of these the share of ``valid``, rounded down, validates. With
    fewer than 10, one validates and one tests; with fewer than 3, all train. This is the rule of MMRec's splits (0.1 and 0.1).

    >>> log = Interactions(torch.zeros(10, dtype=torch.long), torch.arange(10))
    >>> random(log, 0.1, 0.1, torch.Generator().manual_seed(0)).bincount().tolist()
    [8, 1, 1]
    """
    user, pair = _distinct_pairs(log)
    rank, count = _rank_in_group(user, torch.randperm(len(user), generator=generator))
    held_out = ((valid + test) * count.double()).long()
    num_valid = (held_out * (valid / (valid + test))).long()
    held_out = torch.where(count < 10, 2, held_out)
    num_valid = torch.where(count < 10, 1, num_valid)
    part = torch.where(rank < num_valid, VALID, torch.where(rank < held_out, TEST, TRAIN))
    return torch.where(count < 3, TRAIN, part)[pair]


def leave_last_out(log: Interactions) -> Tensor:
    """Parts ``[E]``: of every user the last interaction tests and the one before validates; who has fewer than 3 only trains.

    Interactions of the same second count in the order of the log. A pair that repeats may be in train and in test: drop
    duplicates first where that is not wanted.

    >>> leave_last_out(Interactions(torch.zeros(4, dtype=torch.long), torch.arange(4), time=torch.tensor([30, 10, 40, 20])))
    tensor([1, 0, 2, 0])
    """
    assert log.time is not None
    order = torch.argsort(log.time, stable=True, descending=False)
    rank, count = _rank_in_group(log.user, order)
    part = torch.where(rank == count - 1, TEST, torch.where(rank == count - 2, VALID, TRAIN))
    return torch.where(count < 3, TRAIN, part)


def by_time(log: Interactions, valid: float, test: float) -> Tensor:
    """Parts ``[E]`` between two moments, the same for all users: the latest share tests, the one before validates.

    Interactions of the same second stay together, in the later part.

    >>> time = torch.tensor([5, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    >>> by_time(Interactions(torch.zeros(10, dtype=torch.long), torch.arange(10), time=time), 0.2, 0.1).tolist()
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 2]
    """
    assert log.time is not None
    moments = log.time.sort().values
    num_test, num_valid = max(1, round(test * len(log))), max(1, round(valid * len(log)))
    from_test, from_valid = moments[-num_test], moments[max(0, len(log) - num_test - num_valid)]
    return torch.where(log.time >= from_test, TEST, torch.where(log.time >= from_valid, VALID, TRAIN))


def cold_users(log: Interactions, test: float) -> Tensor:
    """Parts ``[E]`` by user: of the share that came last, by their first event, nothing is trained on.

    Of each of them the last interaction tests, the one before validates, and what came earlier is support; who has fewer than 3 has
    support alone. Everybody else trains, with all that they did, also later. Users who came in the same second stay together.

    >>> user, time = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([1, 2, 9, 6, 3, 5, 4])
    >>> cold_users(Interactions(user, torch.arange(7), time=time), 0.5).tolist()
    [0, 0, 0, 2, 3, 1, 3]
    """
    assert log.time is not None
    user, group = torch.unique(log.user, return_inverse=True)
    came = torch.full_like(user, torch.iinfo(torch.long).max).scatter_reduce_(0, group, log.time, "amin")
    last_ones = came >= came.sort().values[-max(1, round(test * len(user)))]
    part = leave_last_out(log)
    return torch.where(last_ones[group], torch.where(part == TRAIN, SUPPORT, part), TRAIN)


def cold_items(log: Interactions, valid: float, test: float, generator: Generator | None = None) -> Tensor:
    """Parts ``[E]`` by item: all interactions of a drawn share of the items validate or test, so that none is trained on.

    >>> log = Interactions(torch.arange(10), torch.arange(10) % 5)
    >>> part = cold_items(log, 0.2, 0.2, torch.Generator().manual_seed(0))
    >>> part.bincount().tolist(), bool((part[:5] == part[5:]).all())
    ([6, 2, 2], True)
    """
    items, group = torch.unique(log.item, return_inverse=True)
    num_valid, num_test = max(1, round(valid * len(items))), max(1, round(test * len(items)))
    part = torch.full((len(items),), TRAIN)
    drawn = torch.randperm(len(items), generator=generator)
    part[drawn[:num_valid]] = VALID
    part[drawn[num_valid : num_valid + num_test]] = TEST
    return part[group]


def complete(log: Interactions, given: Tensor, valid: float, generator: Generator | None = None) -> Tensor:
    """Given parts ``[E]``; where none validates, a share of every user's training pairs does, drawn at random.

    Of ``n`` pairs ``int(valid n)`` are taken, but at least one where ``n`` is 3 or more.

    >>> log = Interactions(torch.zeros(5, dtype=torch.long), torch.arange(5))
    >>> complete(log, torch.tensor([0, 0, 0, 0, 2]), 0.1, torch.Generator().manual_seed(0)).bincount().tolist()
    [3, 1, 1]
    """
    part = given.long().clone()
    if bool((part == VALID).any()):
        return part
    training = torch.nonzero(part == TRAIN).flatten()
    user, pair = _distinct_pairs(log.take(training))
    rank, count = _rank_in_group(user, torch.randperm(len(user), generator=generator))
    num_valid = torch.where(count >= 3, (valid * count.double()).long().clamp(min=1), 0)
    part[training] = torch.where(rank < num_valid, VALID, TRAIN)[pair]
    return part


def assign_parts(triples: Triples, share: float, generator: Generator | None = None) -> Triples:
    """The facts with parts drawn at random, where the source gives none; where only the validation part is not given, it is drawn.

    >>> row = torch.arange(10)
    >>> assign_parts(Triples(row, row, row, torch.zeros(10, dtype=torch.long)), 0.2, torch.Generator()).part.bincount().tolist()
    [6, 2, 2]
    """
    part, count = triples.part.clone(), round(share * len(triples))
    for code in (TEST, VALID):
        if count and not bool((triples.part == code).any()) and not (code == TEST and bool((triples.part == VALID).any())):
            training = torch.nonzero(part == TRAIN).flatten()
            part[training[torch.randperm(len(training), generator=generator)[:count]]] = code
    return replace(triples, part=part)


def _timed(dataset: Dataset, strategy: str) -> Interactions:
    if dataset.interactions.time is None:
        raise DataError(
            f"split {strategy!r} needs times, but the interactions of {dataset.name} have none; "
            f"choose 'random' or name a time_column"
        )
    return dataset.interactions


def _distinct_pairs(log: Interactions) -> tuple[Tensor, Tensor]:
    """The user of every distinct user-item pair ``[P]``, and the pair of every interaction ``[E]``."""
    width = int(log.item.max()) + 1 if len(log) else 1
    keys, pair = torch.unique(log.user * width + log.item, return_inverse=True)
    return keys // width, pair


def _rank_in_group(group: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Position of every element ``[n]`` among those of its group when they come in ``order`` ``[n]``, and their number."""
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - starts[group[order]]
    return rank, counts[group]
