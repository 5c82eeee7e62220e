"""Softmax, mean and covariance over tokens, some of which may be missing; with none present the result is zero, never NaN."""

import torch
from torch import Tensor


def hide_missing(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the tokens ``[..., T, D]`` that are missing in ``mask`` ``[..., T]``; their values are never read.

    >>> hide_missing(torch.tensor([[1.0, 2.0], [torch.nan, 4.0]]), torch.tensor([True, False]))
    tensor([[1., 2.],
            [0., 0.]])
    """
    return tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_softmax(logits: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """Apply softmax over the entries that are present; missing entries, and rows with none present, get exactly 0.

    Args:
        logits: Any shape.
        mask: Boolean, broadcast against ``logits``; True for a token that is present. None: all present.
        dim: Axis that sums to 1.

    >>> masked_softmax(torch.zeros(2, 3), torch.tensor([[True, True, False], [False, False, False]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    if mask is None:
        return logits.softmax(dim)
    lowest = torch.finfo(logits.dtype).min  # not -inf, which makes a row without tokens NaN, and its gradient too
    return logits.masked_fill(~mask, lowest).softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Average the tokens ``[..., T, D]`` that are present ``[..., T]``; zeros if there are none.

    >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    if mask is None:
        return tokens.mean(-2)
    total = tokens.masked_fill(~mask.unsqueeze(-1), 0.0).sum(-2)
    return total / mask.sum(-1, keepdim=True).clamp(min=1)


def masked_moments(vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean ``[M, D]`` and covariance ``[M, D, D]`` of the vectors ``[N, M, D]`` present in ``mask`` ``[N, M]``; 0 for none.

    >>> masked_moments(torch.tensor([[[2.0]], [[4.0]], [[9.0]]]), torch.tensor([[True], [True], [False]]))
    (tensor([[3.]]), tensor([[[1.]]]))
    """
    number = mask.sum(0).clamp(min=1)[:, None]
    mean = hide_missing(vectors, mask).sum(0) / number
    centred = hide_missing(vectors - mean, mask)
    return mean, torch.einsum("imd,ime->mde", centred, centred) / number[:, None]
