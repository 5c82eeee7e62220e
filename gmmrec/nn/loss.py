"""Losses: pure functions from scores and vectors to a scalar."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gmmrec.nn.blocks import block_rows
from gmmrec.nn.normalize import unit_rows

BLOCK_CELLS = {"cpu": 2**18}  # products held at once: 1 MB, which stays in the cache
LARGEST_BLOCK_CELLS = 2**26


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute the Bayesian personalised ranking loss, the mean of ``-ln sigmoid(positive - negative)`` over all pairs.

    Source: Rendle et al., UAI 2009, section 4.

    Args:
        positive: Scores ``[B, 1]``.
        negative: Scores ``[B, K]``.

    >>> bpr(torch.zeros(2, 1), torch.zeros(2, 3))        # ln 2
    tensor(0.6931)
    """
    return F.softplus(negative - positive).mean()


def expected_bpr(margin: Tensor, variance: Tensor) -> Tensor:
    r"""Compute BPR against all negatives at once: the expectation of :func:`bpr` under normally distributed negative scores.

    .. math:: \mathbb{E}[-\ln \sigma(x)] \approx \kappa \, \mathrm{softplus}(-m / \kappa), \qquad \kappa = \sqrt{1 + \pi v / 8},
        \qquad x \sim N(m, v)

    This is the integral of MacKay's approximation of an averaged sigmoid (Neural Computation 1992); it is exact for zero variance.
    Nothing is sampled, so a model that adapts with this loss is deterministic.

    Args:
        margin: Score of the positive minus the mean score of the negatives, of any shape.
        variance: Variance of the negatives' scores, of the same shape.

    Returns:
        Losses of the same shape, not averaged.

    >>> expected_bpr(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0]))        # ln 2, and -ln sigmoid(2)
    tensor([0.6931, 0.1269])
    """
    scale = (1 + math.pi / 8 * variance).sqrt()
    return scale * F.softplus(-margin / scale)


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """Compute half the squared L2 norm of all rows, divided by the number of rows of the first tensor.

    This is the L2 term of LightGCN's public code, for the layer-0 vectors in the batch only.

    Args:
        *embeddings: ``[B, ..., D]`` each.

    >>> embedding_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    tensor(13.)
    """
    total = torch.stack([e.square().sum() for e in embeddings]).sum()
    return total / (2 * embeddings[0].shape[0])


class _SoftmaxLoss(torch.autograd.Function):
    """``sum_j w_j (ln sum_k count_k exp(<x_j, y_k>) - <x_j, y_j>)`` and its derivatives, in one pass over blocks of rows.

    Each product and its exponential are computed once, while they are in the cache, and no ``[B, B]`` tensor is held.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, count: Tensor, w: Tensor, bound: float) -> Tensor:
        counted, transposed = count[:, None] * y, y.t().contiguous()
        loss, grad_x, grad_y = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(y)
        size = block_rows(BLOCK_CELLS.get(x.device.type, LARGEST_BLOCK_CELLS), len(y))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            logits = x[rows] @ transposed  # [b, B]
            largest: Tensor | float = 0.0
            if bound > 40:  # larger logits may overflow single precision
                largest = logits.amax(1)
                logits.sub_(largest[:, None])
            exponentials = logits.exp_()
            total = exponentials @ count
            loss += (total.log() + largest) @ w[rows]
            scale = (w[rows] / total)[:, None]
            torch.mm(exponentials, counted, out=grad_x[rows]).mul_(scale)
            grad_y.addmm_(exponentials.t(), scale * x[rows])
        grad_y.mul_(count[:, None]).addcmul_(x, w[:, None], value=-1)
        ctx.save_for_backward(grad_x.addcmul_(y, w[:, None], value=-1), grad_y)
        return loss - (x * y).sum(1) @ w

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None, None]:
        grad_x, grad_y = ctx.saved_tensors
        return grads[0] * grad_x, grads[0] * grad_y, None, None, None


_softmax_loss: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor] = _SoftmaxLoss.apply


def info_nce(anchor: Tensor, target: Tensor, temperature: float, count: Tensor | None = None) -> Tensor:
    """Contrast every row of ``anchor`` with all rows of ``target`` by cosine; the positive is the same row. One direction.

    Source: van den Oord et al., 2018, equation 4, with cosine similarities divided by a temperature.

    Args:
        anchor: Vectors ``[B, D]``.
        target: Vectors ``[B, D]``; the other rows are the negatives.
        temperature: Greater than 0.
        count: Multiplicity of every row ``[B]``, at least 1 (default: 1). The loss equals that of the vectors with all repetitions,
            where the copies of a row are negatives, but nothing is computed twice.

    >>> info_nce(torch.ones(4, 2), torch.ones(4, 2), 0.2)        # ln 4
    tensor(1.3863)
    >>> info_nce(torch.ones(2, 2), torch.ones(2, 2), 0.2, torch.tensor([1, 3]))
    tensor(1.3863)
    """
    with torch.autocast(anchor.device.type, enabled=False):  # exponentials of 16-bit products are too coarse
        x, y = (unit_rows(v.float() if v.dtype in (torch.float16, torch.bfloat16) else v) for v in (anchor, target))
        weight = x.new_ones(len(x)) if count is None else count.to(x.dtype)
        return _softmax_loss(x / temperature, y, weight, weight / weight.sum(), 1 / temperature)


def contrast_with_first(views: Sequence[Tensor], present: Tensor, temperature: float) -> Tensor:
    """Average the symmetric :func:`info_nce` of the first view with each other view; 0 if there is only one view.

    Args:
        views: Views ``[B, D]``.
        present: Boolean mask ``[B, V]`` of the views each row has; a row enters the pairs of views that it has both of.
        temperature: Greater than 0.

    >>> x = torch.ones(4, 2)
    >>> contrast_with_first([x, x], torch.ones(4, 2, dtype=torch.bool), 0.2)        # ln 4
    tensor(1.3863)
    """
    total = views[0].new_zeros(())
    for column, view in enumerate(views[1:], start=1):
        both = present[:, 0] & present[:, column]
        if both.any():
            x, y = views[0][both], view[both]
            total = total + (info_nce(x, y, temperature) + info_nce(y, x, temperature)) / 2
    return total / max(1, len(views) - 1)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """Compute ``1 - cos(x, y)`` of every row, ``[..., D]`` to ``[...]``, between 0 and 2; 1 for a row of zeros.

    >>> cosine_distance(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    tensor([0., 1.])
    """
    return 1 - (unit_rows(x) * unit_rows(y)).sum(-1)
