"""Weights of a mixture of rankings, chosen by a metric: many weight vectors are tried at once, a chunk of questions at a time."""

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.evaluation.metrics import METRICS, parse_metric
from gmmrec.evaluation.ranking import hits, members, top_columns
from gmmrec.nn.blocks import block_rows
from gmmrec.tasks.evaluation_tasks import RankingEvaluation

logger = logging.getLogger(__name__)

CELLS = 2**22
"""Scores of all parts held at once: 16 MB, near the processor."""
GRID = 70
"""Weight vectors tried at once, at most."""
POOL = 5
"""How many times as many items as a list holds each part contributes to the pool in which lists are sought first."""
FINEST = 1 / 40
"""The least difference between two weight vectors that are tried is below this."""

PartScores = Callable[[Any], Tensor]
"""From a query of ``B`` questions to comparable scores ``[P, B, I]`` of all parts."""


def mixture_values(
    part_scores: PartScores, questions: RankingEvaluation[Any], num_items: int, weights: Tensor, metric: str
) -> Tensor:
    """Mean of a metric for every one of many mixtures.

    Scores are asked for once, however many mixtures there are, and never held for more than a chunk of questions.

    Args:
        part_scores: Scores of the parts, of all ``num_items`` items.
        questions: What is asked.
        num_items: Number of candidates.
        weights: Weights ``[n, P]``, at least 0.
        metric: Such as ``"recall@20"``.

    Returns:
        Means ``[n]`` (float64).
    """
    name, k = parse_metric(metric)
    totals = torch.zeros(len(weights), dtype=torch.float64)
    size = block_rows(CELLS, weights.shape[1] * num_items)
    for start in range(0, len(questions), size):
        stop = min(start + size, len(questions))
        line, excluded = members(questions.excluded, start, stop)
        relevant = questions.relevant.take(torch.arange(start, stop, device=line.device))
        scores = part_scores(questions.query.take(slice(start, stop)))
        scores[:, line, excluded] = -torch.inf
        pool = None if POOL * k * len(scores) > num_items else _pool(scores, POOL * k)
        for position, weight in enumerate(weights.tolist()):
            found = hits(_top(scores, pool, weight, k), relevant)
            totals[position] += METRICS[name](F.pad(found, (0, k - found.shape[1])), relevant.counts).double().sum().cpu()
    return totals / len(questions)


class _Pool(NamedTuple):
    """The best items of every part: columns ``[B, C]``, ascending, their scores ``[P, B, C]``, and the least of these ``[P, B]``.

    A column that occurs more than once has minus infinity as its score but for the first time.
    """

    columns: Tensor
    scores: Tensor
    least: Tensor


def _pool(scores: Tensor, depth: int) -> _Pool:
    values, columns = scores.topk(depth, dim=2)
    columns = columns.transpose(0, 1).flatten(1).sort(dim=1).values
    repeated = F.pad(columns[:, 1:] == columns[:, :-1], (1, 0))
    pooled = scores.gather(2, columns.expand(len(scores), -1, -1)).masked_fill_(repeated, -torch.inf)
    return _Pool(columns, pooled, values[:, :, -1])


def _top(scores: Tensor, pool: _Pool | None, weight: Sequence[float], k: int) -> Tensor:
    """The ``k`` best columns ``[B, k]`` of a mixture, best first; -1 where fewer remain.

    They are sought in the pool. No item outside of it scores more than the mixture of the parts' least scores there (Fagin's
    threshold, PODS 2001), so that a list is right if its last score is above that; only the others are sought among all items.
    """
    if pool is None:
        values, columns = top_columns(_mixture(scores, weight), k)
        return columns.masked_fill(values == -torch.inf, -1)
    values, positions = top_columns(_mixture(pool.scores, weight), k)
    top = pool.columns.gather(1, positions).masked_fill(values == -torch.inf, -1)
    unsure = (values[:, -1] <= _mixture(pool.least, weight)).nonzero().flatten()
    if unsure.numel():
        top[unsure] = _top(scores[:, unsure], None, weight, k)
    return top


def _mixture(scores: Tensor, weight: Sequence[float]) -> Tensor:
    """The weighted sum over the first axis; a part without a share does not count, not even with minus infinity."""
    mixture = scores.new_zeros(scores.shape[1:])
    for part, share in zip(scores, weight, strict=True):
        if share > 0:
            mixture.add_(part, alpha=share)
    return mixture


def search_weights(
    part_scores: PartScores, questions: RankingEvaluation[Any], num_items: int, num_parts: int, metric: str
) -> tuple[tuple[float, ...], float]:
    """The weights, summing to 1, under which a mixture does best by a metric, and its value.

    First a grid over all shares (21 vectors for two parts, 66 for three, 56 for four, 70 for five); from the best of it on, shares
    are moved from one part to another as long as that helps, by half the step and half of that, down to 1/40 or a little less.
    Where several vectors do equally well, the most even of them wins.

    Args:
        part_scores: Comparable scores of the parts.
        questions: What is asked: those of the validation part.
        num_items: Number of candidates.
        num_parts: Number of parts.
        metric: Such as ``"recall@20"``.
    """
    divisions = max(d for d in range(1, 21) if d == 1 or comb(d + num_parts - 1, num_parts - 1) <= GRID)
    halvings = 0
    while 1 / (divisions * 2**halvings) > FINEST:
        halvings += 1
    step = 2**halvings
    units = divisions * step  # shares are whole numbers of units, so that no vector is tried twice
    tried: dict[tuple[int, ...], float] = {}

    def best_of(vectors: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
        new = sorted({vector for vector in vectors if vector not in tried}, key=lambda v: (sum(x * x for x in v), v))
        if new:
            weights = torch.tensor(new, dtype=torch.float64) / units
            means = mixture_values(part_scores, questions, num_items, weights, metric)
            tried.update(zip(new, means.tolist(), strict=True))
        best = max(tried, key=lambda v: tried[v])  # the first of equals
        logger.info("%d weight vectors tried, best val/%s %.4f at %s", len(tried), metric, tried[best], _text(best, units))
        return best

    best = best_of(tuple(step * share for share in shares) for shares in _grid(divisions, num_parts))
    while num_parts > 1 and step > 1:
        step //= 2
        start = None
        while start != best:
            start = best
            best = best_of(_exchanges(start, step))
    return tuple(share / units for share in best), tried[best]


def _grid(divisions: int, num_parts: int) -> Iterable[tuple[int, ...]]:
    """All ways to share ``divisions`` among parts.

    >>> list(_grid(2, 2))
    [(0, 2), (1, 1), (2, 0)]
    """
    for bars in combinations(range(divisions + num_parts - 1), num_parts - 1):
        ends = (-1, *bars, divisions + num_parts - 1)
        yield tuple(right - left - 1 for left, right in pairwise(ends))


def _exchanges(shares: tuple[int, ...], step: int) -> Iterable[tuple[int, ...]]:
    """Every vector that moves a step from one part to another.

    >>> sorted(_exchanges((2, 1), 1))
    [(1, 2), (3, 0)]
    """
    for giver, share in enumerate(shares):
        for taker in range(len(shares)):
            if taker != giver and share >= step:
                yield tuple(s + step * (position == taker) - step * (position == giver) for position, s in enumerate(shares))


def _text(shares: tuple[int, ...], units: int) -> str:
    return ", ".join(f"{share / units:g}" for share in shares)
