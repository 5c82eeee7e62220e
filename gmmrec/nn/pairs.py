"""A perceptron on many pairs of vectors, without materialising the vectors of every pair."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gmmrec.nn.blocks import block_rows

BLOCK_CELLS = {"cpu": 2**18}  # cells of the pairs in a block: 1 MB, which fits the cache
LARGEST_BLOCK_CELLS = 2**26


class PairNetwork(NamedTuple):
    r"""The weights of :math:`\mathbf{w}^\top \mathrm{ReLU}(\mathbf{W} (\mathbf{p} \odot \mathbf{q}) + \mathbf{x} + \mathbf{y})`.

    Attributes:
        product: W ``[H, D]``, or None to ignore the product.
        query: The query's term of the hidden layer, x, with any bias ``[B, C, H]``.
        token: The token's term, y ``[N, H]``, or None.
        logit: w ``[H]``.
    """

    product: Tensor | None
    query: Tensor
    token: Tensor | None
    logit: Tensor


def pair_logits(query: Tensor, tokens: Tensor, row: Tensor, index: Tensor, network: PairNetwork) -> tuple[Tensor, Tensor]:
    """Compute a perceptron's logits and the inner products of pairs, in blocks that are recomputed in the backward pass.

    Args:
        query: ``[B, C, D]``.
        tokens: ``[N, D]``.
        row: Row of ``query`` of each pair ``[F]``.
        index: Token of each pair ``[F]``; all C queries of a row are paired with it.
        network: The perceptron.

    Returns:
        Logits ``[F, C]`` and inner products ``[F, C]``.

    >>> q, t, none = torch.tensor([[[2.0], [3.0]]]), torch.tensor([[5.0], [-1.0]]), torch.zeros(1, 2, 1)
    >>> network = PairNetwork(torch.ones(1, 1), none, None, torch.ones(1))
    >>> pair_logits(q, t, torch.tensor([0, 0]), torch.tensor([0, 1]), network)
    (tensor([[10., 15.],
            [ 0.,  0.]]), tensor([[10., 15.],
            [-2., -3.]]))
    """
    with torch.autocast(query.device.type, enabled=False):  # in-place sums of gradients do not support mixed precision
        tensors = (query, tokens, *network)
        wide = (t.float() if t is not None and t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)
        logits, products = _pair_logits(row, index, *wide)
    return logits, products


class _PairLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        row: Tensor,
        index: Tensor,
        query: Tensor,
        tokens: Tensor,
        w: Tensor | None,
        x: Tensor,
        y: Tensor | None,
        v: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(row, index, query, tokens, w, x, y, v)
        logits, dots = query.new_empty(len(row), query.shape[1]), query.new_empty(len(row), query.shape[1])
        for part in _blocks(row, query):
            products = query[row[part]] * tokens[index[part]].unsqueeze(1)  # [f, C, D]
            torch.sum(products, dim=2, out=dots[part])
            hidden = _hidden(products, row[part], index[part], w, x, y)
            torch.mv(hidden.flatten(0, 1), v, out=logits[part].view(-1))
        return logits, dots

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_logits, grad_dots = grads
        row, index, query, tokens, w, x, y, v = ctx.saved_tensors
        sums: list[Any] = [
            None if t is None else torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (query, tokens, w, x, y, v)
        ]
        by_query, by_token, by_w, by_x, by_y, by_v = sums
        for part in _blocks(row, query):
            query_rows, token_rows = row[part], index[part]
            queries, token = query[query_rows], tokens[token_rows].unsqueeze(1)
            products = queries * token
            hidden = _hidden(products, query_rows, token_rows, w, x, y)
            slope = grad_logits[part].unsqueeze(-1)
            by_v.addmv_(hidden.flatten(0, 1).t(), slope.flatten())
            by_hidden = (slope * v).mul_(hidden > 0)  # [f, C, H]
            by_x.index_add_(0, query_rows, by_hidden)
            if by_y is not None:
                by_y.index_add_(0, token_rows, by_hidden.sum(1))
            by_products = grad_dots[part].unsqueeze(-1).expand_as(products)
            if w is not None:
                by_w.addmm_(by_hidden.flatten(0, 1).t(), products.flatten(0, 1))
                by_products = torch.matmul(by_hidden, w).add_(by_products)
            by_query.index_add_(0, query_rows, by_products * token)
            by_token.index_add_(0, token_rows, (by_products * queries).sum(1))
        return None, None, *sums


_pair_logits: Callable[..., tuple[Tensor, Tensor]] = _PairLogits.apply


def _hidden(products: Tensor, row: Tensor, index: Tensor, w: Tensor | None, x: Tensor, y: Tensor | None) -> Tensor:
    hidden = x[row]
    if y is not None:
        hidden += y[index].unsqueeze(1)
    if w is not None:
        hidden += products @ w.t()
    return hidden.relu_()


def _blocks(row: Tensor, query: Tensor) -> Iterator[slice]:
    cells = BLOCK_CELLS.get(query.device.type, LARGEST_BLOCK_CELLS)
    step = block_rows(cells, query[0].numel())
    return (slice(start, start + step) for start in range(0, len(row), step))
