"""Beam search: the best ways to choose things from a pool one after the other, nothing twice unless it is words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Step: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""From what was chosen so far, columns of the pool ``[B, W, t]``, to logits of what is next ``[B, W, P]`` and of the end ``[B, W]``
(None where nothing says when to end)."""


@dataclass(frozen=True)
class Beams:
    """The best sequences of every search.

    Attributes:
        chosen: Columns of the pool ``[B, W, T]``, -1 behind the last one.
        score: Sum of the log probabilities of all steps ``[B, W]``, falling; minus infinity where there are fewer sequences than
            were asked for.
        steps: Log probability of every step ``[B, W, T]``, 0 behind the last one; that of the end is in the score alone.
    """

    chosen: Tensor
    score: Tensor
    steps: Tensor

    @property
    def lengths(self) -> Tensor:
        """How much was chosen ``[B, W]``."""
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
    r"""Follows the ``width`` best beginnings of every search at once; a width of 1 is the greedy choice.

    In every step, what may not be chosen leaves the pool before the softmax, so that probabilities are of what is left:

    .. math:: s(c_1 \dots c_n) = \sum_t \ln p(c_t \mid c_{<t}) + \ln p(\mathrm{end} \mid c_{\le n})

    The end competes with the things of the pool once ``min_length`` are chosen. At ``max_length``, or where nothing is left to
    choose, a sequence ends without a word; where there is no logit of the end, all sequences become as long as they may.

    Args:
        step: The model.
        banned: What is never chosen ``[B, P]`` (bool).
        width: Sequences to follow, and to return.
        min_length: Things to choose, at least.
        max_length: Things to choose, at most.
        kind: Of everything in the pool ``[P]``; of one kind one thing at most is chosen. -1 is of no kind.
        as_sets: Whether the same things in another order are the same; the more likely order is kept then.
        repeats: Whether things may be chosen again, as words are.

    Raises:
        ValueError: ``width`` or ``max_length`` is not positive, or less than ``min_length``.

    >>> def step(chosen):
    ...     return torch.tensor([0.0, 1.0, 2.0]).expand(*chosen.shape[:2], 3), None
    >>> beam_search(step, torch.zeros(1, 3, dtype=torch.bool), width=2, max_length=2).chosen
    tensor([[[2, 1],
             [1, 2]]])
    """
    if width < 1 or max_length < 1 or min_length > max_length:
        raise ValueError(
            f"a search needs a width and a length of at least 1 that is not below the least one, but has width {width} and lengths "
            f"from {min_length} to {max_length}"
        )
    searches, pool = banned.shape
    chosen = torch.full((searches, 1, max_length), -1, device=banned.device)
    score, steps = torch.zeros(searches, 1, device=banned.device), torch.zeros(searches, 1, max_length, device=banned.device)
    done = torch.zeros(searches, 1, dtype=torch.bool, device=banned.device)
    names = torch.randint(2**62, (pool,), generator=torch.Generator().manual_seed(0)).to(
        banned.device
    )  # a set is named by their sum
    for length in range(max_length):
        logits, end = step(chosen[..., :length])
        free = ~_used(chosen[..., : 0 if repeats else length], banned, kind)
        logits = logits.masked_fill(~free, -torch.inf)
        may_end = torch.zeros_like(done) if end is None or length < min_length else torch.ones_like(done)
        stuck = ~free.any(-1) & ~may_end
        ending = torch.full_like(score, -torch.inf) if end is None else end.masked_fill(~may_end, -torch.inf)
        ending = ending.masked_fill(stuck, 0.0)  # nothing is left: it ends, surely
        gain = torch.cat([logits, ending[..., None]], -1).log_softmax(-1)  # [B, W, P + 1]
        stay = torch.full_like(gain, -torch.inf)
        stay[..., -1] = 0.0
        gain = torch.where(done[..., None], stay, gain)
        score, position = _best(score[..., None] + gain, chosen[..., :length], names, width, as_sets)
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
    """What each sequence may not choose ``[B, W, P]``: what is banned, what it has, and what is of a kind that it has."""
    there = chosen >= 0
    size = banned.shape[1]
    used = banned[:, None].expand(-1, chosen.shape[1], -1)
    own = torch.zeros(*chosen.shape[:2], size + 1, dtype=torch.bool, device=banned.device)
    used = used | own.scatter_(-1, chosen.masked_fill(~there, size), True)[..., :size]
    if kind is None:
        return used
    kinds = int(kind.max()) + 1 if kind.numel() else 0
    taken = torch.zeros(*chosen.shape[:2], kinds + 1, dtype=torch.bool, device=banned.device)
    known = there & (kind[chosen.clamp(min=0)] >= 0)
    taken.scatter_(-1, kind[chosen.clamp(min=0)].masked_fill(~known, kinds), True)
    taken[..., kinds] = False  # where things of no kind are looked up
    return used | taken[..., torch.where(kind >= 0, kind, kinds)]


def _best(total: Tensor, chosen: Tensor, names: Tensor, width: int, as_sets: bool) -> tuple[Tensor, Tensor]:
    """The best ways to go on: scores ``[B, W]`` and places ``[B, W]`` in ``[B, W' (P + 1)]``; of equal sets the first one."""
    size = total.shape[-1]
    flat = total.flatten(1)
    most = min(flat.shape[1], width * (chosen.shape[-1] + 1) if as_sets else width)  # so many ways lead to one set
    score, position = flat.topk(most, dim=1)
    if as_sets:
        named = torch.where(chosen >= 0, names[chosen.clamp(min=0)], 0).sum(-1)
        column = position % size
        new = torch.where(column < size - 1, names[column.clamp(max=size - 2)], column - size)  # the end makes another sequence
        key = named.gather(1, position // size) + new
        again = (key[:, :, None] == key[:, None, :]).tril(-1).any(-1)
        order = again.to(torch.int8).argsort(dim=1, stable=True)[:, :width]
        score, position = score.masked_fill(again, -torch.inf).gather(1, order), position.gather(1, order)
    return score, position
