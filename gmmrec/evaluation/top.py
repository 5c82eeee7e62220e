"""The best of scored candidates, with a given order among ties, merged from block to block."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Top(NamedTuple):
    """Best candidates ``[B, n]`` with their scores, and how many of all seen so far score as much as the last of them ``[B]``."""

    items: Tensor
    scores: Tensor
    tied: Tensor

    @classmethod
    def empty(cls, queries: int, device: torch.device) -> "Top":
        """Return no candidates."""
        nothing = torch.empty(queries, 0, device=device)
        return cls(nothing.long(), nothing, torch.zeros(queries, dtype=torch.long, device=device))

    @classmethod
    def of(cls, scores: Tensor, candidates: Tensor, k: int, order: Tensor | None) -> "Top":
        """Select among scores ``[B, C]`` of candidates ``[C]`` or ``[B, C]``, with an order among ties of the same shape."""
        if not scores.shape[1]:
            return cls.empty(len(scores), scores.device)
        values, columns, tied = _top(scores, k, order)
        return cls(candidates[columns] if candidates.dim() == 1 else candidates.gather(1, columns), values, tied)

    def merge(self, other: "Top", k: int, order: Tensor | None) -> "Top":
        """Return the best of both."""
        items, scores = torch.cat([self.items, other.items], 1), torch.cat([self.scores, other.scores], 1)
        by_order = (items if order is None else order[items]).argsort(1)
        scores, by_score = scores.gather(1, by_order).sort(dim=1, descending=True, stable=True)
        items = items.gather(1, by_order).gather(1, by_score)[:, :k]
        last = scores[:, min(k, scores.shape[1]) - 1]
        return Top(items, scores[:, :k], self._equal_to(last) + other._equal_to(last))

    def _equal_to(self, score: Tensor) -> Tensor:
        """Return how many candidates have a score ``[B]``, which is at least that of the last of the list, if it is full."""
        listed = (self.scores == score[:, None]).sum(1)
        return torch.where(self.scores[:, -1] == score, self.tied, listed) if self.scores.shape[1] else listed

    def padded(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return items (-1 where there is none) and scores ``[B, k]``, and the ties at the end of full lists."""
        missing = (0, k - self.scores.shape[1])
        scores = F.pad(self.scores, missing, value=-torch.inf)
        items = F.pad(self.items, missing, value=-1).masked_fill(scores == -torch.inf, -1)
        return items, scores, self.tied.masked_fill(scores[:, -1] == -torch.inf, 0)


def top_columns(scores: Tensor, k: int, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return values and columns ``[B, min(k, C)]`` of the highest scores.

    Args:
        scores: ``[B, C]``.
        k: Number of columns.
        order: Position of every column among columns of equal score ``[C]`` or ``[B, C]``; by default the columns themselves.
    """
    return _top(scores, k, order)[:2]


def _top(scores: Tensor, k: int, order: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same, and the number of columns that equal the last of them ``[B]``."""
    k = min(k, scores.shape[1])
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)  # one more, to detect a tie at the end of the list
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    values, columns = values[:, :k], columns[:, :k]
    tied = torch.ones(len(scores), dtype=torch.long, device=scores.device)
    lines = (equal.any(1) & ~values.isnan().any(1)).nonzero().flatten()
    if lines.numel():  # topk leaves the order of ties undefined
        order = order if order is None or order.dim() == 1 else order[lines]
        values[lines], columns[lines], tied[lines] = _top_of_ties(scores[lines], values[lines, -1:], k, order)
    return values, columns, tied


def _top_of_ties(scores: Tensor, last: Tensor, k: int, order: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same for scores with ties: all above the k-th value ``last`` ``[B, 1]``, then the first that equal it."""
    original = None if order is None else order.argsort(-1)  # columns, first of ties first
    if original is not None:
        scores = scores[:, original] if original.dim() == 1 else scores.gather(1, original)
    above, level = scores > last, scores == last
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (level & (level.cumsum(1, dtype=torch.int32) <= missing))
    columns = chosen.nonzero()[:, 1].view(-1, k)
    values, best = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, best)
    if original is not None:
        columns = original[columns] if original.dim() == 1 else original.gather(1, columns)
    return values, columns, level.sum(1)
