"""Scores of many candidates, chunk by chunk."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(score: Callable[[slice], Tensor], num_candidates: int, step: int) -> Tensor:
    """Score candidates in chunks, so that the intermediate results of ``score`` never cover all candidates.

    With gradients, each chunk is recomputed in the backward pass instead of being kept; a single chunk is computed once.

    Args:
        score: Maps the candidates ``[start:stop]`` to their scores ``[B, stop - start]``.
        num_candidates: C.
        step: Candidates per chunk; raised to 1 if less.

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
