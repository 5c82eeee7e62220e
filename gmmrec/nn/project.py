"""Linear projection of rows of a wide table, in blocks that fit the cache, without copying the rows."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gmmrec.nn.blocks import block_rows

BLOCK_BYTES = {"cpu": 4 * 2**20}  # gathered rows that stay in the cache until multiplied
LARGEST_BLOCK_BYTES = 256 * 2**20


def _blocks(table: Tensor, rows: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the result and the table rows that belong there; views if all rows are used."""
    size = block_rows(BLOCK_BYTES.get(table.device.type, LARGEST_BLOCK_BYTES), table.shape[1] * table.element_size())
    size, count = max(1, size), _count(table, rows)
    for start in range(0, count, size):
        position = slice(start, min(start + size, count))
        yield position, table[position] if rows is None else table.index_select(0, rows[position])


def _count(table: Tensor, rows: Tensor | None) -> int:
    return len(table if rows is None else rows)


class _ProjectRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor | None, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weight)
        out, transposed = weight.new_empty(_count(table, rows), weight.shape[0]), weight.t().contiguous()  # faster to read
        for position, block in _blocks(table, rows):
            torch.mm(block, transposed, out=out[position])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[None, None, Tensor]:
        (grad,) = grads
        table, rows, weight = ctx.saved_tensors
        grad_weight = torch.zeros_like(weight)
        for position, block in _blocks(table, rows):
            grad_weight.addmm_(grad[position].t(), block)
        return None, None, grad_weight


_project_rows: Callable[[Tensor, Tensor | None, Tensor], Tensor] = _ProjectRows.apply


def project_rows(table: Tensor, rows: Tensor | None, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute ``F.linear(table[rows], weight, bias)``, gathered and multiplied block by block.

    Copying thousands of rows with thousands of columns takes longer than multiplying them; here nothing larger than a block is
    copied, and only the table itself is kept for the backward pass. A table that requires a gradient takes the plain formula.

    Args:
        table: Features.
        rows: Rows of the table, in any order, repeats allowed; None for all.
        weight: As in ``nn.Linear``.
        bias: As in ``nn.Linear``.

    Shapes:
        - **input:** table ``[N, D]``, rows ``[n]`` or None, weight ``[A, D]``, bias ``[A]``
        - **output:** ``[n, A]``

    >>> project_rows(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 1, 0]), torch.tensor([[10.0, 1.0]]))
    tensor([[34.],
            [34.],
            [12.]])
    """
    if table.requires_grad:
        return F.linear(table if rows is None else F.embedding(rows, table), weight, bias)
    with torch.autocast(table.device.type, enabled=False):  # products with ``out`` do not support mixed precision
        out = _project_rows(table, rows, weight.to(table.dtype))
    return out if bias is None else out + bias
