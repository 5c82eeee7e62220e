"""Exact rankings of the whole catalogue in chunks, without excluded candidates."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.scoring import CANDIDATES, tiled_scores
from gmmrec.evaluation.top import Top
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


class RankedTies(NamedTuple):
    """Top candidates of every query, and what metrics need to know of ties: see :func:`gmmrec.evaluation.ties.expected_hits`."""

    items: Tensor
    """Rows ``[Q, k]``, as in :class:`Ranked`."""
    scores: Tensor
    """Scores ``[Q, k]``, as in :class:`Ranked`."""
    tied: Tensor
    """Number of candidates ``[Q]``, in the list or below it, that score as much as the last of the list."""
    relevant: Tensor
    """Scores of the relevant candidates, parallel to ``task.relevant.values``; minus infinity where they are not ranked."""


def tie_order(degree: Tensor, ids: Vocabulary | Tensor | None = None) -> Tensor:
    """Return the position of every candidate among candidates of equal score in a list that is shown: ``[N]``, lower is first.

    Candidates with more training interactions come first, then those whose raw id is lower.

    Args:
        degree: Training interactions of every candidate ``[N]``.
        ids: Raw ids of the candidates, or their positions in the order of raw ids ``[N]``; in the order of rows by default.

    >>> tie_order(torch.tensor([1.0, 5.0, 1.0]), Vocabulary(["b", "c", "a"]))
    tensor([2, 0, 1])
    """
    position = torch.arange(degree.numel(), device=degree.device)
    if ids is not None:
        position = (ids.order if isinstance(ids, Vocabulary) else ids).to(degree.device)
    by_id = torch.empty_like(position)
    by_id[position] = torch.arange(degree.numel(), device=degree.device)
    ordered = by_id[degree[by_id].argsort(descending=True, stable=True)]
    order = torch.empty_like(position)
    order[ordered] = torch.arange(degree.numel(), device=degree.device)
    return order


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
    order: Tensor | None = None,
) -> Ranked:
    """Return the top ``k`` candidates of every query, best first.

    The result depends on the scores alone, not on chunks or device; equal scores are ordered by ``order``. Excluded candidates, and
    those scored with minus infinity, are never returned.

    Args:
        model: Only its ``score`` is called; the caller sets evaluation mode and disables gradients.
        encoded: Encoding returned by ``model.encode``.
        task: Ranking task, on the device of ``encoded``.
        num_candidates: Number of nodes of the ranked type.
        k: Length of the lists.
        chunk_size: Queries scored at once.
        candidate_chunk: Candidates scored at once; by default as many as give ``CELLS`` scores.
        pool: Mask of the candidates to rank ``[num_candidates]``; all by default.
        order: Position of every candidate among candidates of equal score ``[num_candidates]``, see :func:`tie_order`; by default
            its row.

    Returns:
        Rows and scores ``[Q, k]``, padded with -1 where fewer than ``k`` candidates remain.

    Raises:
        UsageError: The model returns NaN, or scores of a wrong shape.
    """
    found = rank_ties(
        *(model, encoded, task, num_candidates),
        k=k,
        chunk_size=chunk_size,
        candidate_chunk=candidate_chunk,
        pool=pool,
        order=order,
    )
    return Ranked(found.items, found.scores)


def rank_ties(
    model: AnyRecommender,
    encoded: Encoded,
    task: RankingEvaluation[Any],
    num_candidates: int,
    *,
    k: int,
    chunk_size: int = 512,
    candidate_chunk: int | None = None,
    pool: Tensor | None = None,
    order: Tensor | None = None,
) -> RankedTies:
    """Return the lists of :func:`rank`, with the ties at their ends and the scores of the relevant candidates."""
    device = task.excluded.values.device
    candidates = torch.arange(num_candidates, device=device) if pool is None else pool.nonzero().flatten()
    column = torch.arange(num_candidates, device=device) if pool is None else torch.where(pool, pool.cumsum(0) - 1, -1)
    order = None if order is None else order.to(device)
    width = max(k + 1, candidate_chunk or block_rows(CELLS, chunk_size))
    width = -(-width // CANDIDATES) * CANDIDATES
    parts = []
    for start in range(0, len(task), chunk_size):
        stop = min(start + chunk_size, len(task))
        query = task.query.take(slice(start, stop))
        (line, excluded), (relevant_line, relevant) = (members(sets, start, stop) for sets in (task.excluded, task.relevant))
        excluded, relevant = column[excluded], column[relevant]
        found = torch.full(relevant.shape, -torch.inf, device=device)
        top = Top.empty(stop - start, device)
        for left in range(0, candidates.numel(), width):
            part = candidates[left : left + width]
            scores = tiled_scores(model, encoded, query, part)
            scores = scores.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            here = (excluded >= left) & (excluded < left + part.numel())
            scores.view(-1)[line[here] * part.numel() + excluded[here] - left] = -torch.inf
            here = (relevant >= left) & (relevant < left + part.numel())
            found[here] = scores[relevant_line[here], relevant[here] - left]
            best = Top.of(scores, part, k, None if order is None else order[part])
            if bool(best.scores.isnan().any()):
                row = start + int(best.scores.isnan().any(1).nonzero()[0, 0])
                raise UsageError(f"{type(model).__name__} returned NaN scores, first for query {row}; its training has diverged")
            top = top.merge(best, k, order) if left else best
        parts.append((*top.padded(k), found))
    if not parts:
        nothing = torch.empty(0, device=device)
        return RankedTies(nothing.new_empty(0, k, dtype=torch.long), nothing.new_empty(0, k), nothing.long(), nothing)
    return RankedTies(*(torch.cat(each) for each in zip(*parts, strict=True)))


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
    order: Tensor | None = None,
) -> RankedTies:
    """Return the top ``k`` of every query's relevant candidates and ``count`` sampled ones, like :func:`rank_ties`.

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
        order: Position of every candidate among candidates of equal score ``[I]``; by default its row.
    """
    generator = torch.Generator().manual_seed(0)
    chances = torch.ones(degree.numel()) if by == "uniform" else degree.float().cpu()
    order = None if order is None else order.to(degree.device)
    parts = []
    for start in range(0, len(task), chunk_size):
        part = task.take(torch.arange(start, min(start + chunk_size, len(task)), device=degree.device))
        drawn = torch.multinomial(chances, len(part) * count, replacement=True, generator=generator).view(len(part), count)
        drawn = drawn.to(degree.device)
        line = torch.arange(len(part), device=degree.device)[:, None]
        excluded = part.relevant.contains(line, drawn) | part.excluded.contains(line, drawn)
        relevant = torch.full((len(part), int(part.relevant.counts.max())), -1, device=degree.device)
        position = torch.arange(part.relevant.values.numel(), device=degree.device) - part.relevant.indptr[part.relevant.groups]
        relevant[part.relevant.groups, position] = part.relevant.values
        drawn = drawn.masked_fill(excluded, -1).sort(1).values
        drawn[:, 1:] = drawn[:, 1:].masked_fill(drawn[:, 1:] == drawn[:, :-1], -1)
        candidates = torch.cat([relevant, drawn], 1)
        scores = tiled_scores(model, encoded, part.query, candidates.clamp(min=0)).float().masked_fill(candidates < 0, -torch.inf)
        found = scores[part.relevant.groups, position]
        best = Top.of(scores, candidates, k, (candidates if order is None else order[candidates.clamp(min=0)]))
        if bool(best.scores.isnan().any()):
            raise UsageError(f"{type(model).__name__} returned NaN scores; its training has diverged")
        parts.append((*best.padded(k), found))
    return RankedTies(*(torch.cat(each) for each in zip(*parts, strict=True)))


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
