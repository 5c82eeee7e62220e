"""Cross-entropy of a linear classifier with many classes, without materialising all probabilities."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = {"cpu": 2**9}
"""Rows and classes whose logits are held at once: 1 MB, which fits the cache together with its inputs."""
LARGEST_BLOCK = 2**13


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        total, transposed = x.new_full((len(x),), -torch.inf), weight.t().contiguous()
        for rows, classes in _blocks(x, weight):
            partial = torch.addmm(bias[classes], x[rows], transposed[:, classes]).logsumexp(1)
            torch.logaddexp(total[rows], partial, out=total[rows])
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
            probability = torch.addmm(bias[classes], x[rows], transposed[:, classes]).sub_(total[rows, None]).exp_()
            grad_x[rows].addmm_(probability, weight[classes])
            grad_weight[classes].addmm_(probability.t(), scaled[rows])
            grad_bias[classes].addmv_(probability.t(), grad[rows])
        grad_x.sub_(weight[target]).mul_(grad[:, None])
        grad_weight.index_add_(0, target, scaled, alpha=-1)
        grad_bias.index_add_(0, target, grad, alpha=-1)
        return grad_x, grad_weight, grad_bias, None


_cross_entropy: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _CrossEntropy.apply


def classify(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    r"""Compute ``F.cross_entropy(F.linear(x, weight, bias), target, reduction="none")`` block by block.

    No ``[n, V]`` tensor is held: logits are computed in blocks of rows and classes, and again in the backward pass.

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
        dtype = torch.promote_types(x.dtype, weight.dtype)
        return _cross_entropy(x.to(dtype), weight.to(dtype), bias.to(dtype), target)


def _blocks(x: Tensor, weight: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of rows and classes, classes in the outer loop, so that each block of weights is read from memory once."""
    size = BLOCK.get(x.device.type, LARGEST_BLOCK)
    for first in range(0, len(weight), size):
        for start in range(0, len(x), size):
            yield slice(start, start + size), slice(first, first + size)
