"""Additive attention logits for all pairs of two sets, without materialising the hidden layer of every pair."""

import torch
from torch import Tensor

from gmmrec.nn.blocks import block_rows

LARGEST = 10.0
"""Largest input for which the product of four exponentials of twice its value, :math:`e^{80}`, fits a float32."""


def additive_logits(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    r"""Compute :math:`l_{bn} = \mathbf{w}^\top \tanh(\mathbf{x}_b + \mathbf{y}_n)` for every pair, without gradients (inference).

    Plain additive attention takes one hyperbolic tangent per pair and dimension; this takes one division per two dimensions:
    :math:`\tanh(x + y) = 1 - 2 / (1 + e^{2x} e^{2y})`, and two such fractions with :math:`p_h = e^{2 x_h} e^{2 y_h}` add up to

    .. math:: \frac{w_1}{1 + p_1} + \frac{w_2}{1 + p_2} = \frac{(w_1 + w_2) + w_2 p_1 + w_1 p_2}{1 + p_1 + p_2 + p_1 p_2}

    whose numerator and denominator are sums of four products of a term in ``x`` and a term in ``y``: matrix products. All terms of
    the denominator are positive, so nothing cancels, and the result is as exact as with tangents. Inputs beyond 10, where the
    exponentials could overflow, fall back to tangents, in place, block by block.

    Args:
        x: First summand, ``[B, H]``, such as the users' half of a linear map, bias included.
        y: Second summand, ``[N, H]``.
        weight: ``[H]``.

    Returns:
        ``[B, N]``.

    >>> additive_logits(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.5, 9.0]]), torch.tensor([1.0, 2.0]))    # tanh(1) + 2 tanh(9)
    tensor([[2.7616]])
    """
    x, y, weight = (t.detach().float() if t.dtype in (torch.float16, torch.bfloat16) else t.detach() for t in (x, y, weight))
    if not x.numel() or not y.numel():
        return x.new_zeros(x.shape[0], y.shape[0])
    with torch.autocast(x.device.type, enabled=False):
        largest = torch.stack([x.abs().amax(), y.abs().amax()]).amax()
        return _by_tangents(x, y, weight) if not bool(largest <= LARGEST) else _by_fractions(x, y, weight)  # `not <=`: NaN too


def rectified_logits(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    r"""Compute :math:`l_{bn} = \mathbf{w}^\top \mathrm{ReLU}(\mathbf{x}_b + \mathbf{y}_n)` for every pair, without gradients.

    Because :math:`\mathrm{ReLU}(x + y) = \max(x, -y) + y`, each pair and dimension costs one maximum, in blocks that fit the cache.

    Args:
        x: First summand, ``[B, H]``.
        y: Second summand, ``[N, H]``.
        weight: ``[H]``.

    Returns:
        ``[B, N]``.

    >>> rectified_logits(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -1.0], [-3.0, 4.0]]), torch.tensor([1.0, 0.5]))
    tensor([[3., 2.]])
    """
    x, y, weight = x.detach(), y.detach(), weight.detach()
    logits, negative = torch.mv(y, weight).repeat(len(x), 1), -y
    cells = block_rows(_cells(x), x.shape[1])
    columns = max(1, min(len(y), cells))
    rows = block_rows(cells, columns)
    for i in range(0, len(x), rows):
        for j in range(0, len(y), columns):
            logits[i : i + rows, j : j + columns] += torch.maximum(x[i : i + rows, None], negative[j : j + columns]) @ weight
    return logits


def _by_fractions(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    if x.shape[1] % 2:  # pad to an even width with a dimension of weight 0
        x, y, weight = (torch.nn.functional.pad(t, (0, 1)) for t in (x, y, weight))
    first, second = weight[0::2, None], weight[1::2, None]
    p, q = _products(x), _products(y)  # [4, H/2, B] and [4, H/2, N]
    numerator = -2 * torch.stack([p[0] * (first + second), p[1] * second, p[2] * first, torch.zeros_like(p[3])])
    left = torch.stack([numerator, p], dim=2).permute(1, 2, 3, 0)  # [H/2, 2, B, 4]: numerators and denominators in one product
    right = q.transpose(0, 1).contiguous()  # [H/2, 4, N]
    logits = weight.sum().expand(x.shape[0], y.shape[0]).clone()
    rows, columns = _block(x, y)
    for i in range(0, x.shape[0], rows):
        left_block = left[:, :, i : i + rows].reshape(left.shape[0], -1, 4)  # [H/2, 2 b, 4]
        for j in range(0, y.shape[0], columns):
            block = logits[i : i + rows, j : j + columns]
            total = block.contiguous()
            fraction = x.new_empty(2 * total.shape[0], total.shape[1])
            for pair in range(left.shape[0]):
                torch.mm(left_block[pair], right[pair, :, j : j + columns], out=fraction)
                total.addcdiv_(*fraction.chunk(2))
            block.copy_(total)
    return logits


def _products(x: Tensor) -> Tensor:
    """Return 1, p1, p2 and p1 p2 ``[4, H/2, N]`` for every pair of dimensions, with ``p = exp(2 x)``."""
    p = (2 * x.t()).exp()
    first, second = p[0::2], p[1::2]
    return torch.stack([torch.ones_like(first), first, second, first * second])


def _by_tangents(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    logits = x.new_empty(x.shape[0], y.shape[0])
    step = block_rows(_cells(x), x.shape[1])
    for row in range(x.shape[0]):
        for j in range(0, y.shape[0], step):
            torch.mv((y[j : j + step] + x[row]).tanh_(), weight, out=logits[row, j : j + step])
    return logits


def _cells(x: Tensor) -> int:
    """Return the number of cells per block: few enough for a CPU's cache, enough to keep a GPU busy."""
    return 2**16 if x.device.type == "cpu" else 2**24


def _block(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Return the rows and columns of a block: on a CPU 32 rows, on a GPU 512, or all rows if there are fewer."""
    rows = min(x.shape[0], 32 if x.device.type == "cpu" else 512)
    return rows, min(y.shape[0], block_rows(_cells(x), rows))
