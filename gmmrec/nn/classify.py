"""Cross-entropy of a linear classifier with many classes, without a table of all chances."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = {"cpu": 2**9}
"""Rows and classes whose logits are held at once: 1 MB, which stays in the cache with what they are made of."""
LARGEST_BLOCK = 2**13


class _Surprise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        total, transposed = x.new_full((len(x),), -torch.inf), weight.t().contiguous()
        for rows, classes in _blocks(x, weight):
            part = torch.addmm(bias[classes], x[rows], transposed[:, classes]).logsumexp(1)
            torch.logaddexp(total[rows], part, out=total[rows])
        ctx.save_for_backward(x, weight, bias, target, total)
        return total - (x * weight[target]).sum(1) - bias[target]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, target, total = ctx.saved_tensors
        (grad,) = grads
        scaled, transposed = grad[:, None] * x, weight.t().contiguous()
        grad_x, grad_weight, grad_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        for rows, classes in _blocks(x, weight):
            chances = torch.addmm(bias[classes], x[rows], transposed[:, classes]).sub_(total[rows, None]).exp_()
            grad_x[rows].addmm_(chances, weight[classes])
            grad_weight[classes].addmm_(chances.t(), scaled[rows])
            grad_bias[classes].addmv_(chances.t(), grad[rows])
        grad_x.sub_(weight[target]).mul_(grad[:, None])
        grad_weight.index_add_(0, target, scaled, alpha=-1)
        grad_bias.index_add_(0, target, grad, alpha=-1)
        return grad_x, grad_weight, grad_bias, None


_surprise: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _Surprise.apply


def classify(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    r"""``F.cross_entropy(F.linear(x, weight, bias), target, reduction="none")``, block by block of rows.

    No ``[n, V]`` is held: logits are made in blocks of rows and classes, and once more for the derivative.

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


def _blocks(x: Tensor, weight: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows of x and of the classes, class by class, so that a part of the weights is read from memory once."""
    size = BLOCK.get(x.device.type, LARGEST_BLOCK)
    for first in range(0, len(weight), size):
        for start in range(0, len(x), size):
            yield slice(start, start + size), slice(first, first + size)
