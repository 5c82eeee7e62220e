"""Splits of interactions into training, validation and test parts over the same vocabularies.

A strategy assigns a part to every interaction ``[E]``, a code of :class:`~gmmrec.data.parts.SplitPart`; :func:`split_dataset`
chooses and applies one.
"""

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from gmmrec.config import check_literals, check_positive
from gmmrec.data.dataset import Dataset
from gmmrec.data.impressions import Impressions
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.parts import GIVEN_PARTS, SUPPORT, TEST, TRAIN, VALID, SplitPart
from gmmrec.data.repeats import sums_within_parts
from gmmrec.data.triples import Triples
from gmmrec.errors import DataError, UsageError

logger = logging.getLogger(__name__)

NOWHERE = -1
"""Code of a pair whose sum, as far as its part may know it, misses the minimum rating."""

Strategy = Literal["auto", "given", "random", "leave_last_out", "by_time", "cold_items", "cold_users"]


@dataclass(frozen=True)
class Split:
    """Parts of one log: ``train`` for training and graphs, ``valid`` for model selection, ``test`` for reported results.

    Some splits have a fourth part, ``support``: the history of users who are evaluated but never trained on. Impressions,
    outfits and triples hold their own parts; triples without parts are divided at random.
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
        """Interactions known before evaluation: the training part and the support part, if any."""
        return [self.train] if self.support is None else [self.train, self.support]

    def part(self, part: SplitPart | str) -> Interactions:
        """Return the interactions of one part.

        Raises:
            UsageError: The name is not that of a part, or this split has no support part.

        >>> train, valid, test = (Interactions(torch.tensor([n]), torch.tensor([n])) for n in range(3))
        >>> Split(train, valid, test).part("valid") is valid
        True
        """
        part = SplitPart(part)
        log: Interactions | None = getattr(self, part.value)
        if log is None:
            raise UsageError(f"this split has no {part} part; split with the strategy 'cold_users' to get one")
        return log


@dataclass(frozen=True)
class SplitConfig:
    """Strategy and shares of a split."""

    strategy: Strategy = "auto"
    """``given``: the source's own parts; ``random``: per user; ``leave_last_out``: per user, by time; ``by_time``: at two points
    in time; ``cold_items``: whole items; ``cold_users``: the last events of the newest users; ``auto``: given if the source has
    a split, else leave_last_out for models that read histories if the log has times, else random."""
    valid: float = 0.1
    """Validation share of the log (of the items for ``cold_items``); unused by ``cold_users``."""
    test: float = 0.1
    """Test share of the log (of the items for ``cold_items``, of the users for ``cold_users``)."""
    triples: float = 0.1
    """Validation share, and equal test share, of triples without given parts; 0 keeps all in training, for models that only read
    them."""
    seed: int = 0
    """Seed of the split, independent of the training seed, so that runs with different seeds share evaluation tasks."""

    def __post_init__(self) -> None:
        check_literals(self)
        check_positive(valid=self.valid, test=self.test)
        if not 0 <= self.triples < 0.5:
            raise UsageError(f"triples must be at least 0 and below 0.5, so that training triples remain, but is {self.triples}")
        if self.valid + self.test >= 1:
            raise UsageError(f"valid and test must leave training data, but add up to {self.valid + self.test:g}")


def chosen_strategy(dataset: Dataset, strategy: Strategy, *, reads_histories: bool = False) -> Strategy:
    """Return the strategy that ``auto`` stands for, or the named one.

    Args:
        dataset: Data set to split.
        strategy: Strategy of the settings.
        reads_histories: Whether the model reads histories: a random split of a log with times would hide earlier events than those
            in the histories.
    """
    if strategy != "auto":
        return strategy
    if dataset.given_split is not None:
        return "given"
    return "leave_last_out" if reads_histories and dataset.interactions.moment is not None else "random"


def split_dataset(dataset: Dataset, config: SplitConfig = SplitConfig(), generator: Generator | None = None) -> Split:
    """Split a data set; users without a training interaction are kept and reported.

    Weights that ``duplicates="sum"`` added up are summed anew, from nothing later than the part of each pair.

    Args:
        dataset: Data set to split.
        config: Strategy and shares.
        generator: Source of randomness of ``random``, ``cold_items`` and of a validation part that is not given.

    Raises:
        DataError: The data set lacks data that the strategy needs, or a part is empty.
    """
    if not len(dataset.interactions) and dataset.triples is not None:  # a knowledge graph without interactions
        empty = dataset.interactions
        return Split(empty, empty, empty, triples=assign_parts(dataset.triples, config.triples, generator))
    log, strategy = dataset.interactions, chosen_strategy(dataset, config.strategy)
    if dataset.impressions is not None and strategy != "given":  # else clicks of held-out impressions would be trained on
        raise DataError(f"impressions of {dataset.name} have given parts; choose split 'given' instead of {strategy!r}")
    if strategy == "given":
        if dataset.given_split is None:
            raise DataError(f"{dataset.name} has no given split; choose another strategy, such as 'random'")
        part = complete(log, dataset.given_split, config.valid, generator)
    elif strategy == "random":
        part = random(log, config.valid, config.test, generator)
    elif strategy == "leave_last_out":
        part = leave_last_out(_timed(dataset, strategy))
    elif strategy == "by_time":
        part = by_time(_timed(dataset, strategy, between_users=True), config.valid, config.test)
    elif strategy == "cold_users":
        part = cold_users(_timed(dataset, strategy, between_users=True), config.test)
    else:
        part = cold_items(log, config.valid, config.test, generator)
    if dataset.repeats is not None:
        weight = sums_within_parts(dataset.repeats, log, part, strategy, dataset.given_split)
        log = replace(log, weight=weight)
        if dataset.repeats.least is not None:
            part = torch.where(weight >= dataset.repeats.least, part, NOWHERE)
    for name in GIVEN_PARTS:
        if not bool((part == name.code).any()):
            raise DataError(
                f"split {strategy!r} of {dataset.name} ({len(log)} interactions) has an empty {name} part; "
                f"choose another strategy or provide more data"
            )
    train, valid, test = (log.take(part == code) for code in (TRAIN, VALID, TEST))
    triples = None if dataset.triples is None else assign_parts(dataset.triples, config.triples, generator)
    support = log.take(part == SUPPORT) if strategy == "cold_users" else None
    split = Split(train, valid, test, dataset.impressions, dataset.outfits, triples, support)
    trained = torch.bincount(split.train.user, minlength=dataset.num_users) > 0
    unseen = torch.unique(torch.cat([split.valid.user, split.test.user]))
    unseen = unseen[~trained[unseen]]
    if len(unseen):
        example = dataset.vocabularies["user"].ids(unseen[:1])[0]
        logger.warning(
            "%d users, such as %r, are in valid or test but never in train; they are evaluated as cold-start users",
            len(unseen),
            example,
        )
    return split


def random(log: Interactions, valid: float, test: float, generator: Generator | None = None) -> Tensor:
    """Draw parts ``[E]`` per user, keeping repeated pairs together.

    Of ``n`` distinct items, ``int((valid + test) n)`` are held out, a share ``valid / (valid + test)`` of them, rounded down, for
    validation. Of fewer than 10 items, one is for validation and one for test; of fewer than 3, all are for training. This is
    the rule of MMRec's splits (0.1 and 0.1).

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
    """Assign parts ``[E]``: the last interaction of every user to test, the one before to validation.

    Users with fewer than 3 interactions are in training only. Interactions of the same moment keep the order of the log. A
    repeated pair may be in both training and test: drop duplicates first to avoid it.

    >>> leave_last_out(Interactions(torch.zeros(4, dtype=torch.long), torch.arange(4), time=torch.tensor([30, 10, 40, 20])))
    tensor([1, 0, 2, 0])
    """
    assert log.moment is not None
    order = torch.argsort(log.moment, stable=True, descending=False)
    rank, count = _rank_in_group(log.user, order)
    part = torch.where(rank == count - 1, TEST, torch.where(rank == count - 2, VALID, TRAIN))
    return torch.where(count < 3, TRAIN, part)


def by_time(log: Interactions, valid: float, test: float) -> Tensor:
    """Assign parts ``[E]`` by two points in time, the same for all users: the latest share to test, the one before to validation.

    Interactions of the same moment stay together, in the later part.

    >>> time = torch.tensor([5, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    >>> by_time(Interactions(torch.zeros(10, dtype=torch.long), torch.arange(10), time=time), 0.2, 0.1).tolist()
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 2]
    """
    assert log.moment is not None
    moment, moments = log.moment, log.moment.sort().values
    num_test, num_valid = max(1, round(test * len(log))), max(1, round(valid * len(log)))
    from_test, from_valid = moments[-num_test], moments[max(0, len(log) - num_test - num_valid)]
    return torch.where(moment >= from_test, TEST, torch.where(moment >= from_valid, VALID, TRAIN))


def cold_users(log: Interactions, test: float) -> Tensor:
    """Assign parts ``[E]`` by user: none of the newest share of the users, by their first event, is trained on.

    The last interaction of each of them is in test, the one before in validation, and earlier ones in support; those of users
    with fewer than 3 are all in support. All interactions of the other users are in training, even later ones. Users whose first
    events share a moment stay together.

    >>> user, time = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([1, 2, 9, 6, 3, 5, 4])
    >>> cold_users(Interactions(user, torch.arange(7), time=time), 0.5).tolist()
    [0, 0, 0, 2, 3, 1, 3]
    """
    assert log.moment is not None
    user, group = torch.unique(log.user, return_inverse=True)
    first_time = torch.full_like(user, torch.iinfo(torch.long).max).scatter_reduce_(0, group, log.moment, "amin")
    is_new = first_time >= first_time.sort().values[-max(1, round(test * len(user)))]
    part = leave_last_out(log)
    return torch.where(is_new[group], torch.where(part == TRAIN, SUPPORT, part), TRAIN)


def cold_items(log: Interactions, valid: float, test: float, generator: Generator | None = None) -> Tensor:
    """Assign parts ``[E]`` by item: all interactions of a random share of the items go to validation or test.

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
    """Complete given parts ``[E]``: without a validation part, draw it from every user's training pairs.

    Of ``n`` pairs, ``int(valid n)`` are drawn, but at least one if ``n`` is 3 or more.

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
    """Draw the parts of triples at random if the source gives none, or the validation part alone if only it is missing.

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


def _timed(dataset: Dataset, strategy: str, *, between_users: bool = False) -> Interactions:
    """Return the log if it has times; those of an order must also hold between users where the strategy compares them."""
    log = dataset.interactions
    if log.moment is None:
        raise DataError(
            f"split {strategy!r} needs times, but the interactions of {dataset.name} have none; "
            f"choose 'random' or name a time_column"
        )
    if between_users and log.order is not None:
        if _counts_per_user(log):
            raise DataError(
                f"split {strategy!r} compares the times of users, but those of {dataset.name} are no dates and count the events of "
                "each user; choose 'leave_last_out' or name a column of dates as time_column"
            )
        logger.warning(
            "split %r: the times of %s are an order without dates, so parts are divided by its numbers, which must mean the same "
            "for all users",
            *(strategy, dataset.name),
        )
    return log


def _counts_per_user(log: Interactions) -> bool:
    """Return whether the order of every user's events is 0, 1, 2, … (or from 1), so that it says nothing between users."""
    assert log.order is not None
    users, group = torch.unique(log.user, return_inverse=True)
    rank, count = _rank_in_group(group, torch.argsort(log.order, stable=True))
    first = int(log.order.min())
    return len(users) > 1 and int(count.max()) > 1 and first in (0, 1) and bool((log.order == rank + first).all())


def _distinct_pairs(log: Interactions) -> tuple[Tensor, Tensor]:
    """Return the user of every distinct user-item pair ``[P]``, and the pair of every interaction ``[E]``."""
    width = int(log.item.max()) + 1 if len(log) else 1
    keys, pair = torch.unique(log.user * width + log.item, return_inverse=True)
    return keys // width, pair


def _rank_in_group(group: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank of every element ``[n]`` within its group by ``order`` ``[n]``, and the size of its group ``[n]``."""
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - starts[group[order]]
    return rank, counts[group]
