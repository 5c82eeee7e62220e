"""Scores of many candidates, a chunk at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(score: Callable[[slice], Tensor], num_candidates: int, step: int) -> Tensor:
    """Puts the chunks of a score together, so that what ``score`` holds meanwhile is never held for all candidates.

    Under gradients, each chunk is computed again in the backward pass instead of being kept; a single chunk is computed once.

    Args:
        score: From some candidates ``[start:stop]`` to their scores ``[B, stop - start]``.
        num_candidates: C.
        step: Candidates in a chunk; at least one is taken.

    Returns:
        ``[B, C]``.

    >>> in_chunks(lambda part: torch.arange(5.0)[None, part], 5, 2)
    tensor([[0., 1., 2., 3., 4.]])
    """
    step = max(1, step)
    chunks = [slice(start, min(start + step, num_candidates)) for start in range(0, max(1, num_candidates), step)]
    if len(chunks) == 1:
        return score(chunks[0])
    if not torch.is_grad_enabled():
        return torch.cat([score(chunk) for chunk in chunks], dim=1)
    parts: list[Any] = [checkpoint(score, chunk, use_reentrant=False) for chunk in chunks]
    return torch.cat(parts, dim=1)
