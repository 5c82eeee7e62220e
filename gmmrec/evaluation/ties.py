"""Expectations over a random order of ties: what metrics know of the hits of a list, and sums over the ranks of a tied block."""

from typing import NamedTuple

import torch
from torch import Tensor


class Hits(NamedTuple):
    """Expected hits at the ranks of lists ``[Q, K]``, over all orders of the tied candidates.

    Blocks of tied candidates are independent of each other, and the hits of a block depend on its size and its number of relevant
    candidates alone, so three numbers per rank give every metric.
    """

    chance: Tensor
    """Probability of a hit at the rank."""
    none: Tensor
    """Probability that there is no hit up to the rank."""
    found: Tensor
    """Expected number of hits up to the rank if it holds a hit, and 0 if not."""

    @classmethod
    def of(cls, hits: "Tensor | Hits") -> "Hits":
        """Return the hits of lists without ties from a mask ``[Q, K]``; expected hits are returned as they are.

        >>> Hits.of(torch.tensor([[False, True, True]])).found
        tensor([[0., 1., 2.]])
        """
        if isinstance(hits, Hits):
            return hits
        count = hits.cumsum(1)
        return cls(hits.float(), (count == 0).float(), (count * hits).float())

    def first(self, k: int) -> "Hits":
        """Return the first ``k`` ranks."""
        return Hits(*(each[:, :k] for each in self))


def expected_hits(hits: Tensor, scores: Tensor, tied: Tensor, relevant_tied: Tensor) -> Hits:
    """Return the expected hits of ranked lists (float64), in closed form from their tied blocks.

    A block that starts at rank ``a`` has ``s`` candidates, ``r`` of them relevant, and ``b`` hits before it. At its ``o``-th rank
    (from 0) there is a hit with probability ``r / s``; none if there was none before in the block with ``(s - r - o) / (s - o)``;
    and a hit there has on average ``o (r - 1) / (s - 1)`` others before it in the block.

    Args:
        hits: Whether the candidates of a list are relevant ``[Q, K]``, in any order within a block.
        scores: Their scores ``[Q, K]``, descending; minus infinity where a list is shorter.
        tied: Size of the last block, in the list or below it ``[Q]``.
        relevant_tied: Relevant candidates of the last block ``[Q]``.

    >>> one = torch.ones(1, dtype=torch.long)    # 2 of 4 candidates that score 1, one of them relevant
    >>> expected_hits(torch.tensor([[True, False]]), torch.ones(1, 2), 4 * one, one).chance
    tensor([[0.2500, 0.2500]], dtype=torch.float64)
    """
    rank = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    new = torch.ones_like(hits)
    new[:, 1:] = scores[:, 1:] != scores[:, :-1]
    start = torch.where(new, rank, 0).cummax(1).values
    size, relevant = (torch.zeros_like(rank).scatter_add_(1, start, each.long()) for each in (torch.ones_like(hits), hits))
    last = (start == start[:, -1:]) & (scores[:, -1:] > -torch.inf)  # goes on below the list
    size = torch.where(last, tied[:, None], size.gather(1, start)).double()
    relevant = torch.where(last, relevant_tied[:, None], relevant.gather(1, start)).double()
    offset = rank - start
    before = (hits.cumsum(1) - hits.long()).gather(1, start)
    chance = relevant / size
    none = ((size - relevant - offset) / (size - offset)).clamp(min=0).cumprod(1)
    return Hits(chance, none, chance * (1 + before + offset * (relevant - 1) / (size - 1).clamp(min=1)))


def mean_over_ranks(values: Tensor, above: Tensor, tied: Tensor) -> Tensor:
    """Return the mean of values of the ranks that a candidate may take among those it ties with.

    Args:
        values: Value of every rank from 1 ``[n]``, 0 beyond.
        above: Number of candidates that score higher, any shape.
        tied: Number of candidates that score as much, itself included, of the same shape.

    Returns:
        Of the shape of ``above`` (float64).

    >>> mean_over_ranks(torch.tensor([1.0, 0.5]), torch.tensor([0, 1, 1]), torch.tensor([1, 1, 4]))
    tensor([1.0000, 0.5000, 0.1250], dtype=torch.float64)
    """
    values = values.double()
    total = torch.cat([values.new_zeros(1), values.cumsum(0)])
    start, end = above.clamp(max=values.numel()), (above + tied).clamp(max=values.numel())
    mean = (total[end] - total[start]) / tied
    alone = torch.cat([values, values.new_zeros(1)])[start]  # without the rounding of a difference of sums
    return torch.where(tied == 1, alone, mean)
