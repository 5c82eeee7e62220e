"""Cross-entropy of a linear classifier with many classes, without a table of all chances."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_CELLS = {"cpu": 2**18}
"""Logits held at once: 1 MB, which stays in the cache."""
LARGEST_BLOCK_CELLS = 2**26


class _Surprise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        total, transposed = x.new_empty(len(x)), weight.t().contiguous()
        for rows in _blocks(x, weight):
            torch.logsumexp(torch.addmm(bias, x[rows], transposed), dim=1, out=total[rows])
        ctx.save_for_backward(x, weight, bias, target, total)
        return total - (x * weight[target]).sum(1) - bias[target]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, target, total = ctx.saved_tensors
        (grad,) = grads
        scaled, transposed = grad[:, None] * x, weight.t().contiguous()
        grad_x, grad_weight, grad_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        for rows in _blocks(x, weight):
            chances = torch.addmm(bias, x[rows], transposed).sub_(total[rows, None]).exp_()  # [b, V]
            torch.mm(chances, weight, out=grad_x[rows])
            grad_weight.addmm_(chances.t(), scaled[rows])
            grad_bias.addmv_(chances.t(), grad[rows])
        grad_x.sub_(weight[target]).mul_(grad[:, None])
        grad_weight.index_add_(0, target, scaled, alpha=-1)
        grad_bias.index_add_(0, target, grad, alpha=-1)
        return grad_x, grad_weight, grad_bias, None


_surprise: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _Surprise.apply


def classify(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    r"""``F.cross_entropy(F.linear(x, weight, bias), target, reduction="none")``, block by block of rows.

    No ``[n, V]`` is held: logits are computed again for the derivative, while they are in the cache.

    Args:
        x: ``[n, D]``.
        weight: ``[V, D]``.
        bias: ``[V]``.
        target: Classes ``[n]`` (int64).

    Returns:
        ``[n]``.

    >>> classify(torch.ones(1, 2), torch.zeros(4, 2), torch.zeros(4), torch.tensor([3]))        # ln 4
    tensor([1.3863])
    """
    with torch.autocast(x.device.type, enabled=False):  # sums of thousands of exponentials are too coarse in 16 bits
        kind = torch.promote_types(x.dtype, weight.dtype)
        return _surprise(x.to(kind), weight.to(kind), bias.to(kind), target)


def _blocks(x: Tensor, weight: Tensor) -> Iterator[slice]:
    size = max(1, BLOCK_CELLS.get(x.device.type, LARGEST_BLOCK_CELLS) // len(weight))
    return (slice(start, start + size) for start in range(0, len(x), size))
