"""Beam search over a pool, for sequences of distinct elements or of words, which may repeat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from gmmrec.errors import UsageError

Step: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Function from the columns of the pool chosen so far ``[B, W, t]`` to the logits of the next one ``[B, W, P]`` and of the end
``[B, W]`` (None if the model has no end)."""


@dataclass(frozen=True)
class Beams:
    """The best sequences of every search.

    Attributes:
        chosen: Columns of the pool ``[B, W, T]``, -1 after the last one.
        score: Sum of the log probabilities of all steps ``[B, W]``, in descending order; minus infinity where fewer sequences than
            requested exist.
        steps: Log probability of every step ``[B, W, T]``, 0 after the last one; that of the end is in the score only.
    """

    chosen: Tensor
    score: Tensor
    steps: Tensor

    @property
    def lengths(self) -> Tensor:
        """Lengths of the sequences ``[B, W]``."""
        return (self.chosen >= 0).sum(-1)


def beam_search(
    step: Step,
    banned: Tensor,
    *,
    width: int,
    min_length: int = 0,
    max_length: int,
    kind: Tensor | None = None,
    as_sets: bool = False,
    repeats: bool = False,
) -> Beams:
    r"""Extend the ``width`` best prefixes of every search in parallel; a width of 1 is greedy decoding.

    At every step, elements that may not be chosen leave the pool before the softmax, so probabilities are over what remains:

    .. math:: s(c_1 \dots c_n) = \sum_t \ln p(c_t \mid c_{<t}) + \ln p(\mathrm{end} \mid c_{\le n})

    The end competes with the pool once ``min_length`` elements are chosen. At ``max_length``, or with an empty pool, a sequence
    ends at no cost; without a logit of the end, all sequences grow as long as they may.

    Args:
        step: The model.
        banned: Elements that are never chosen ``[B, P]`` (bool).
        width: Number of sequences to follow and to return.
        min_length: Minimum number of elements.
        max_length: Maximum number of elements.
        kind: Kind of every element of the pool ``[P]``; at most one element of a kind is chosen. -1: no kind.
        as_sets: Whether sequences that differ only in order are the same; the most likely order is kept.
        repeats: Whether an element may be chosen again, as words may.

    Raises:
        UsageError: ``width`` or ``max_length`` is not positive, or ``max_length`` is less than ``min_length``.

    >>> def step(chosen):
    ...     return torch.tensor([0.0, 1.0, 2.0]).expand(*chosen.shape[:2], 3), None
    >>> beam_search(step, torch.zeros(1, 3, dtype=torch.bool), width=2, max_length=2).chosen
    tensor([[[2, 1],
             [1, 2]]])
    """
    if width < 1 or max_length < 1 or min_length > max_length:
        raise UsageError(
            f"beam search needs width >= 1, max_length >= 1 and min_length <= max_length, but got width={width}, "
            f"min_length={min_length} and max_length={max_length}"
        )
    searches, pool = banned.shape
    chosen = torch.full((searches, 1, max_length), -1, device=banned.device)
    score, steps = torch.zeros(searches, 1, device=banned.device), torch.zeros(searches, 1, max_length, device=banned.device)
    done = torch.zeros(searches, 1, dtype=torch.bool, device=banned.device)
    hashes = torch.randint(2**62, (pool,), generator=torch.Generator().manual_seed(0))
    hashes = hashes.to(banned.device)  # their sum identifies a set
    for length in range(max_length):
        logits, end = step(chosen[..., :length])
        free = ~_used(chosen[..., : 0 if repeats else length], banned, kind)
        logits = logits.masked_fill(~free, -torch.inf)
        may_end = torch.zeros_like(done) if end is None or length < min_length else torch.ones_like(done)
        stuck = ~free.any(-1) & ~may_end
        ending = torch.full_like(score, -torch.inf) if end is None else end.masked_fill(~may_end, -torch.inf)
        ending = ending.masked_fill(stuck, 0.0)  # an empty pool: the end has probability 1
        gain = torch.cat([logits, ending[..., None]], -1).log_softmax(-1)  # [B, W, P + 1]
        stay = torch.full_like(gain, -torch.inf)
        stay[..., -1] = 0.0
        gain = torch.where(done[..., None], stay, gain)
        score, position = _best(score[..., None] + gain, chosen[..., :length], hashes, width, as_sets)
        parent, column = position // (pool + 1), position % (pool + 1)
        ends = column == pool
        chosen, steps = (x.gather(1, parent[..., None].expand(-1, -1, max_length)) for x in (chosen, steps))
        done = done.gather(1, parent) | ends
        chosen[..., length] = torch.where(ends, -1, column)
        steps[..., length] = gain.flatten(1).gather(1, position).masked_fill(ends, 0.0)
        if bool(done.all()):
            break
    none = score.isinf()[..., None]
    return Beams(chosen.masked_fill(none, -1), score, steps.masked_fill(none, 0.0))


def _used(chosen: Tensor, banned: Tensor, kind: Tensor | None) -> Tensor:
    """Return the elements each sequence may not choose ``[B, W, P]``: banned ones, its own, and those of a kind that it has."""
    exists = chosen >= 0
    size = banned.shape[1]
    used = banned[:, None].expand(-1, chosen.shape[1], -1)
    repeated = torch.zeros(*chosen.shape[:2], size + 1, dtype=torch.bool, device=banned.device)
    used = used | repeated.scatter_(-1, chosen.masked_fill(~exists, size), True)[..., :size]
    if kind is None:
        return used
    num_kinds = int(kind.max()) + 1 if kind.numel() else 0
    taken = torch.zeros(*chosen.shape[:2], num_kinds + 1, dtype=torch.bool, device=banned.device)
    has_kind = exists & (kind[chosen.clamp(min=0)] >= 0)
    taken.scatter_(-1, kind[chosen.clamp(min=0)].masked_fill(~has_kind, num_kinds), True)
    taken[..., num_kinds] = False  # the column that elements of no kind look up
    return used | taken[..., torch.where(kind >= 0, kind, num_kinds)]


def _best(total: Tensor, chosen: Tensor, hashes: Tensor, width: int, as_sets: bool) -> tuple[Tensor, Tensor]:
    """Return the best continuations: scores ``[B, W]`` and positions ``[B, W]`` in ``[B, W' (P + 1)]``; of equal sets the first."""
    size = total.shape[-1]
    flat = total.flatten(1)
    count = min(flat.shape[1], width * (chosen.shape[-1] + 1) if as_sets else width)  # a set of t + 1 has up to t + 1 parents
    score, position = flat.topk(count, dim=1)
    if as_sets:
        prefix = torch.where(chosen >= 0, hashes[chosen.clamp(min=0)], 0).sum(-1)
        column = position % size
        added = torch.where(column < size - 1, hashes[column.clamp(max=size - 2)], column - size)  # an end makes another sequence
        key = prefix.gather(1, position // size) + added
        is_repeat = (key[:, :, None] == key[:, None, :]).tril(-1).any(-1)
        order = is_repeat.to(torch.int8).argsort(dim=1, stable=True)[:, :width]
        score, position = score.masked_fill(is_repeat, -torch.inf).gather(1, order), position.gather(1, order)
    return score, position
