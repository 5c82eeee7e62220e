"""Softmax, mean and spread over tokens of which some are missing; where all are, the result is zero and never NaN."""

import torch
from torch import Tensor


def hide_missing(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros in place of the tokens ``[..., T, D]`` that are missing by ``mask`` ``[..., T]``: whatever stands there is never read.

    >>> hide_missing(torch.tensor([[1.0, 2.0], [torch.nan, 4.0]]), torch.tensor([True, False]))
    tensor([[1., 2.],
            [0., 0.]])
    """
    return tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_softmax(logits: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """Softmax over the entries that are present; the others get exactly 0, and so does a row without any.

    Args:
        logits: Any shape.
        mask: Boolean, broadcast against ``logits``; True where there is a token. None: all are.
        dim: The axis that sums to 1.

    >>> masked_softmax(torch.zeros(2, 3), torch.tensor([[True, True, False], [False, False, False]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    if mask is None:
        return logits.softmax(dim)
    lowest = torch.finfo(logits.dtype).min  # not -inf: a row without tokens would be NaN, also in the derivative
    return logits.masked_fill(~mask, lowest).softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the tokens ``[..., T, D]`` that are present ``[..., T]``; zeros where there is none.

    >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    if mask is None:
        return tokens.mean(-2)
    total = tokens.masked_fill(~mask.unsqueeze(-1), 0.0).sum(-2)
    return total / mask.sum(-1, keepdim=True).clamp(min=1)


def masked_moments(vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[M, D]`` and covariance ``[M, D, D]`` of those of N vectors ``[N, M, D]`` that are present ``[N, M]``; 0 of none.

    >>> masked_moments(torch.tensor([[[2.0]], [[4.0]], [[9.0]]]), torch.tensor([[True], [True], [False]]))
    (tensor([[3.]]), tensor([[[1.]]]))
    """
    number = mask.sum(0).clamp(min=1)[:, None]
    mean = hide_missing(vectors, mask).sum(0) / number
    centred = hide_missing(vectors - mean, mask)
    return mean, torch.einsum("imd,ime->mde", centred, centred) / number[:, None]
