"""Events of repeated pairs that were summed into one interaction, so that each part of a split sums only what it may know."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import TEST, VALID

WHOLE = ("random", "cold_items")
"""Strategies that keep all events of a pair in one part."""
LATEST = torch.iinfo(torch.long).max


@dataclass(frozen=True)
class Repeats:
    """All events of a log in which the weights of repeated pairs were summed.

    Attributes:
        log: Events with their own weights.
        is_kept: Whether the event stands for its pair ``[E]`` (bool).
        given: Given part of each event ``[E]``, or None.
        least: Minimum sum of a pair, applied to what a part may know; or None.
    """

    log: Interactions
    is_kept: Tensor
    given: Tensor | None = None
    least: float | None = None

    def take(self, index: Tensor) -> "Repeats":
        """Return the events under a boolean mask ``[E]``."""
        given = None if self.given is None else self.given[index]
        return replace(self, log=self.log.take(index), is_kept=self.is_kept[index], given=given)


def rows_of(repeats: Repeats, log: Interactions) -> Tensor:
    """Return the row of each event's pair in a log of distinct pairs ``[E]``, -1 where the pair was filtered out."""
    width = 1 + max(int(repeats.log.item.max()), int(log.item.max()))
    keys, order = (log.user * width + log.item).sort()
    pairs = repeats.log.user * width + repeats.log.item
    position = torch.searchsorted(keys, pairs).clamp(max=len(keys) - 1)
    return torch.where(keys[position] == pairs, order[position], -1)


def sums_within_parts(repeats: Repeats, log: Interactions, part: Tensor, strategy: str, given: Tensor | None = None) -> Tensor:
    """Return the weight of every pair ``[n]``, summed over the events that the part it stands in may know.

    With given parts, these are the events of the same part. A split by time sums what lies before the first held-out event: of the
    user, or of all users for ``by_time``; before the first test event for pairs of the validation part. Other splits keep all
    events of a pair together.

    Args:
        repeats: All events.
        log: Distinct pairs.
        part: Part of each pair ``[n]``.
        strategy: Strategy that assigned the parts.
        given: Given part of each pair ``[n]``, for the strategy ``given``.
    """
    row = rows_of(repeats, log)
    repeats, row = repeats.take(row >= 0), row[row >= 0]
    events = repeats.log
    assert events.weight is not None
    if strategy == "given":
        assert repeats.given is not None
        assert given is not None
        known = repeats.given == given[row]
    elif strategy in WHOLE:
        known = torch.ones_like(repeats.is_kept)
    else:
        assert events.moment is not None
        known = repeats.is_kept | (events.moment < _limits(log, part, per_user=strategy != "by_time")[row])
    total = torch.zeros(len(log), dtype=torch.float64).index_add_(0, row[known], events.weight[known].double())
    return total.float()


def _limits(log: Interactions, part: Tensor, *, per_user: bool) -> Tensor:
    """Return the moment before which each pair may know events ``[n]``."""
    assert log.moment is not None
    group = log.user if per_user else torch.zeros_like(log.user)
    firsts = [
        torch.full((int(group.max()) + 1,), LATEST).scatter_reduce_(0, group[part == code], log.moment[part == code], "amin")
        for code in (VALID, TEST)
    ]
    from_test = firsts[1][group]
    known = torch.where(part == VALID, from_test, torch.minimum(firsts[0][group], from_test))
    return torch.where(part == TEST, LATEST, known)
