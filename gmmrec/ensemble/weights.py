"""Search for the weights of a mixture of rankings by a metric: many weight vectors at once, a chunk of queries at a time."""

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.evaluator import measure
from gmmrec.evaluation.metrics import parse_metric
from gmmrec.evaluation.ranking import RankedTies, members
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.top import Top
from gmmrec.nn.blocks import block_rows
from gmmrec.tasks.evaluation_tasks import RankingEvaluation

logger = logging.getLogger(__name__)

CELLS = 2**22
"""Scores of all members held at once: 16 MB, to fit the cache."""
GRID = 70
"""Maximum number of weight vectors evaluated at once."""
POOL = 5
"""Items of each member in the pool that is ranked first, as a multiple of the list length."""
FINEST = 1 / 40
"""Upper bound of the final step size of the search."""

PartScores = Callable[[Any], Tensor]
"""Function from a query of ``B`` rows to normalized scores ``[P, B, I]`` of all members."""


def mixture_values(part_scores: PartScores, task: RankingEvaluation[Any], num_items: int, weights: Tensor, metric: str) -> Tensor:
    """Return the mean of a metric for each of several mixtures.

    Scores are computed once for all mixtures, and held for one chunk of queries at a time.

    Args:
        part_scores: Scores of the members for all ``num_items`` items.
        task: Ranking task.
        num_items: Number of candidates.
        weights: Weights ``[n, P]``, at least 0.
        metric: Metric such as ``"recall@20"``.

    Returns:
        Means ``[n]`` (float64).
    """
    name, k = parse_metric(metric)
    settings = EvalConfig(metrics=(name,), ks=(k,))
    totals = torch.zeros(len(weights), dtype=torch.float64)
    size = block_rows(CELLS, weights.shape[1] * num_items)
    for start in range(0, len(task), size):
        stop = min(start + size, len(task))
        line, excluded = members(task.excluded, start, stop)
        relevant = task.relevant.take(torch.arange(start, stop, device=line.device))
        scores = part_scores(task.query.take(slice(start, stop)))
        scores[:, line, excluded] = -torch.inf
        pool = None if POOL * k * len(scores) > num_items else _pool(scores, POOL * k)
        for position, weight in enumerate(weights.tolist()):
            ranked = _ranked(scores, pool, weight, k, relevant)
            totals[position] += measure(ranked, relevant, settings)[metric].double().sum().cpu()
    return totals / len(task)


class _Pool(NamedTuple):
    """Top items of every member: columns ``[B, C]``, ascending, their scores ``[P, B, C]``, and the lowest of these ``[P, B]``.

    Repeated columns score minus infinity after their first occurrence.
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


def _ranked(scores: Tensor, pool: _Pool | None, weight: Sequence[float], k: int, relevant: RaggedSets) -> RankedTies:
    """Return the top ``k`` columns of a mixture, and the scores of the relevant ones in rows with ties."""
    items, values, tied = _top(scores, pool, weight, k).padded(k)
    found = torch.full(relevant.values.shape, -torch.inf, device=scores.device)
    lines = ((values[:, 1:] == values[:, :-1]).any(1) | (tied > 1)).nonzero().flatten()
    if lines.numel():  # ranked among all items, so that scores compared for equality come from one sum
        mixture = _mixture(scores[:, lines], weight)
        items[lines], values[lines], tied[lines] = _of_all(mixture, k).padded(k)
        here, indptr = relevant.positions(lines)
        found[here] = mixture[torch.arange(lines.numel()).repeat_interleave(indptr.diff()), relevant.values[here]]
    return RankedTies(items, values, tied, found)


def _of_all(mixture: Tensor, k: int) -> Top:
    return Top.of(mixture, torch.arange(mixture.shape[1], device=mixture.device), k, None)


def _top(scores: Tensor, pool: _Pool | None, weight: Sequence[float], k: int) -> Top:
    """Return the top ``k`` columns ``[B, k]`` of a mixture, best first.

    The pool is ranked first. No item outside of it scores above the mixture of the members' lowest scores in it (Fagin's threshold,
    PODS 2001), so a list is exact if its last score is above that; only the others are ranked among all items.
    """
    if pool is None:
        return _of_all(_mixture(scores, weight), k)
    top = Top.of(_mixture(pool.scores, weight), pool.columns, k, None)
    unsure = (top.scores[:, -1] <= _mixture(pool.least, weight)).nonzero().flatten()
    if unsure.numel():
        for known, exact in zip(top, _of_all(_mixture(scores[:, unsure], weight), k), strict=True):
            known[unsure] = exact
    return top


def _mixture(scores: Tensor, weight: Sequence[float]) -> Tensor:
    """Return the weighted sum over the first axis; members with weight 0 are skipped, even with scores of minus infinity."""
    mixture = scores.new_zeros(scores.shape[1:])
    for member, factor in zip(scores, weight, strict=True):
        if factor > 0:
            mixture.add_(member, alpha=factor)
    return mixture


def search_weights(
    part_scores: PartScores, task: RankingEvaluation[Any], num_items: int, num_parts: int, metric: str
) -> tuple[tuple[float, ...], float]:
    """Return the weights, summing to 1, that maximize a metric of the mixture, and its value.

    The search starts with a grid of weights (21 vectors for two members, 66 for three, 56 for four, 70 for five); from its best
    vector, weight is moved from one member to another as long as the metric improves, with a step that is halved down to 1/40 or
    slightly less. Among equally good vectors the most uniform one wins.

    Args:
        part_scores: Normalized scores of the members.
        task: Ranking task of the validation part.
        num_items: Number of candidates.
        num_parts: Number of members.
        metric: Metric such as ``"recall@20"``.
    """
    divisions = max(d for d in range(1, 21) if d == 1 or comb(d + num_parts - 1, num_parts - 1) <= GRID)
    halvings = 0
    while 1 / (divisions * 2**halvings) > FINEST:
        halvings += 1
    step = 2**halvings
    units = divisions * step  # integer weights, so that no vector is evaluated twice
    tried: dict[tuple[int, ...], float] = {}

    def best_of(vectors: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
        new = sorted({vector for vector in vectors if vector not in tried}, key=lambda v: (sum(x * x for x in v), v))
        if new:
            weights = torch.tensor(new, dtype=torch.float64) / units
            means = mixture_values(part_scores, task, num_items, weights, metric)
            tried.update(zip(new, means.tolist(), strict=True))
        best = max(tried, key=lambda v: tried[v])  # the first among equals
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
    """Yield all ways to distribute ``divisions`` over members.

    >>> list(_grid(2, 2))
    [(0, 2), (1, 1), (2, 0)]
    """
    for bars in combinations(range(divisions + num_parts - 1), num_parts - 1):
        ends = (-1, *bars, divisions + num_parts - 1)
        yield tuple(right - left - 1 for left, right in pairwise(ends))


def _exchanges(shares: tuple[int, ...], step: int) -> Iterable[tuple[int, ...]]:
    """Yield every vector that moves a step from one member to another.

    >>> sorted(_exchanges((2, 1), 1))
    [(1, 2), (3, 0)]
    """
    for giver, share in enumerate(shares):
        for taker in range(len(shares)):
            if taker != giver and share >= step:
                yield tuple(s + step * (position == taker) - step * (position == giver) for position, s in enumerate(shares))


def _text(shares: tuple[int, ...], units: int) -> str:
    return ", ".join(f"{share / units:g}" for share in shares)
