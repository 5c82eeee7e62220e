"""Exact rankings of the whole catalogue in chunks, without excluded candidates."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.tasks.evaluation_tasks import RankingEvaluation

CELLS = 2**24
"""Scores held at once if the number of candidates per chunk is not given: 64 MB."""


class Ranked(NamedTuple):
    """Top candidates of every query, best first."""

    items: Tensor
    """Rows ``[Q, k]``, -1 where fewer than ``k`` candidates remain."""
    scores: Tensor
    """Scores ``[Q, k]`` (float32), minus infinity where there is no candidate."""


def rank(
    model: AnyRecommender,
    encoded: Encoded,
    task: RankingEvaluation[Any],
    num_candidates: int,
    *,
    k: int,
    chunk_size: int = 512,
    candidate_chunk: int | None = None,
    pool: Tensor | None = None,
) -> Ranked:
    """Return the top ``k`` candidates of every query, best first.

    The result depends on the scores alone, not on chunks or device: equal scores are ordered by row. Excluded candidates, and those
    scored with minus infinity, are never returned.

    Args:
        model: Only its ``score`` is called; the caller sets evaluation mode and disables gradients.
        encoded: Encoding returned by ``model.encode``.
        task: Ranking task, on the device of ``encoded``.
        num_candidates: Number of nodes of the ranked type.
        k: Length of the lists.
        chunk_size: Queries scored at once.
        candidate_chunk: Candidates scored at once; by default as many as give ``CELLS`` scores.
        pool: Mask of the candidates to rank ``[num_candidates]``; all by default.

    Returns:
        Rows and scores ``[Q, k]``, padded with -1 where fewer than ``k`` candidates remain.

    Raises:
        UsageError: The model returns NaN, or scores of a wrong shape.
    """
    device = task.excluded.values.device
    candidates = torch.arange(num_candidates, device=device) if pool is None else pool.nonzero().flatten()
    column = torch.arange(num_candidates, device=device) if pool is None else torch.where(pool, pool.cumsum(0) - 1, -1)
    width = max(k + 1, candidate_chunk or block_rows(CELLS, chunk_size))
    top = torch.full((len(task), k), -1, device=device)
    top_scores = torch.full((len(task), k), -torch.inf, device=device)
    for start in range(0, len(task), chunk_size):
        stop = min(start + chunk_size, len(task))
        query = task.query.take(slice(start, stop))
        line, excluded = members(task.excluded, start, stop)
        excluded = column[excluded]
        best = torch.empty(stop - start, 0, device=device)
        rows = torch.empty(stop - start, 0, dtype=torch.long, device=device)
        for left in range(0, candidates.numel(), width):
            part = candidates[left : left + width]
            scores = _scores(model, encoded, query, part)
            here = (excluded >= left) & (excluded < left + part.numel())
            scores.view(-1)[line[here] * part.numel() + excluded[here] - left] = -torch.inf
            values, columns = top_columns(scores, k)
            if bool(values.isnan().any()):
                row = start + int(values.isnan().any(1).nonzero()[0, 0])
                raise UsageError(f"{type(model).__name__} returned NaN scores, first for query {row}; its training has diverged")
            best, rows = torch.cat([best, values], 1), torch.cat([rows, part[columns]], 1)
            if left:  # both halves are ordered by (score, row), the left one with lower rows: a stable sort keeps that order
                best, order = best.sort(dim=1, descending=True, stable=True)
                best, rows = best[:, :k], rows.gather(1, order)[:, :k]
        top[start:stop, : rows.shape[1]] = rows.masked_fill(best == -torch.inf, -1)
        top_scores[start:stop, : rows.shape[1]] = best
    return Ranked(top, top_scores)


def rank_sampled(
    model: AnyRecommender,
    encoded: Encoded,
    task: RankingEvaluation[Any],
    degree: Tensor,
    count: int,
    *,
    k: int,
    by: Literal["uniform", "popularity"] = "uniform",
    chunk_size: int = 512,
) -> Ranked:
    """Return the top ``k`` of every query's relevant candidates and ``count`` sampled ones, like :func:`rank`.

    Candidates are drawn with replacement and a fixed seed, without relevant or excluded ones; duplicates count once.

    Args:
        model: Only its ``score`` is called.
        encoded: Encoding returned by ``model.encode``.
        task: Ranking task, on the device of ``encoded``.
        degree: Training interactions of every candidate ``[I]``.
        count: Number of candidates drawn per query.
        k: Length of the lists.
        by: Distribution of the sample: uniform, or in proportion to ``degree``.
        chunk_size: Queries scored at once.
    """
    generator = torch.Generator().manual_seed(0)
    chances = torch.ones(degree.numel()) if by == "uniform" else degree.float().cpu()
    top = torch.full((len(task), k), -1, device=degree.device)
    top_scores = torch.full((len(task), k), -torch.inf, device=degree.device)
    for start in range(0, len(task), chunk_size):
        part = task.take(torch.arange(start, min(start + chunk_size, len(task)), device=degree.device))
        drawn = torch.multinomial(chances, len(part) * count, replacement=True, generator=generator).view(len(part), count)
        drawn = drawn.to(degree.device)
        line = torch.arange(len(part), device=degree.device)[:, None]
        excluded = part.relevant.contains(line, drawn) | part.excluded.contains(line, drawn)
        relevant = torch.full((len(part), int(part.relevant.counts.max())), -1, device=degree.device)
        position = torch.arange(part.relevant.values.numel(), device=degree.device) - part.relevant.indptr[part.relevant.groups]
        relevant[part.relevant.groups, position] = part.relevant.values
        candidates = torch.cat([relevant, drawn.masked_fill(excluded, -1)], 1).sort(1, descending=True).values
        repeated = torch.zeros_like(candidates, dtype=torch.bool)
        repeated[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
        candidates = candidates.masked_fill(repeated, -1).flip(1)  # ascending rows, so that equal scores are ordered by row
        scores = model.score(encoded, part.query, candidates.clamp(min=0)).float().masked_fill(candidates < 0, -torch.inf)
        values, columns = top_columns(scores, k)
        if bool(values.isnan().any()):
            raise UsageError(f"{type(model).__name__} returned NaN scores; its training has diverged")
        found = candidates.gather(1, columns).masked_fill(values == -torch.inf, -1)
        top[start : start + len(part), : found.shape[1]] = found
        top_scores[start : start + len(part), : found.shape[1]] = values
    return Ranked(top, top_scores)


def hits(top: Tensor, relevant: RaggedSets) -> Tensor:
    """Return a mask of the ranked candidates that are relevant to their query.

    Args:
        top: Rows ``[Q, K]``, -1 where a list is shorter.
        relevant: Relevant candidates of the ``Q`` queries.

    Returns:
        ``[Q, K]``, bool; -1 is never a hit.

    >>> hits(torch.tensor([[3, 1], [2, -1]]), RaggedSets(torch.tensor([0, 1, 3]), torch.tensor([1, 2, 3])))
    tensor([[False,  True],
            [ True, False]])
    """
    row = torch.arange(len(relevant), device=top.device)[:, None]
    return relevant.contains(row, top.clamp(min=0)) & (top >= 0)


def members(sets: RaggedSets, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Return the group (counted from ``start``) and the value of all members of the groups ``start … stop - 1``."""
    indptr = sets.indptr[start : stop + 1]
    group = torch.repeat_interleave(torch.arange(stop - start, device=indptr.device), indptr.diff())
    return group, sets.values[int(indptr[0]) : int(indptr[-1])]


def _scores(model: AnyRecommender, encoded: Encoded, query: Any, candidates: Tensor) -> Tensor:
    """Return scores ``[B, C]`` as float32, copied to be overwritten, since a model may return a view of its state."""
    scores = model.score(encoded, query, candidates)
    expected = (len(query), candidates.numel())
    if scores.shape != expected:
        raise UsageError(f"{type(model).__name__}.score must return scores of shape {expected}, but returned {tuple(scores.shape)}")
    return scores.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def top_columns(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and columns ``[B, min(k, C)]`` of the highest scores, ordered by (score, column)."""
    k = min(k, scores.shape[1])
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)  # one more, to detect a tie at the end of the list
    tied = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    values, columns = values[:, :k], columns[:, :k]
    lines = (tied.any(1) & ~values.isnan().any(1)).nonzero().flatten()
    if lines.numel():  # topk leaves the order of ties undefined
        values[lines], columns[lines] = _top_of_ties(scores[lines], values[lines, -1:], k)
    return values, columns


def _top_of_ties(scores: Tensor, last: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the same for scores with ties: all above the k-th value ``last`` ``[B, 1]``, then the first that equal it."""
    above, level = scores > last, scores == last
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (level & (level.cumsum(1, dtype=torch.int32) <= missing))
    columns = chosen.nonzero()[:, 1].view(-1, k)
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)
