"""Search for nearest neighbours by inner product, in blocks; never an N x N matrix."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_BYTES = 64 * 2**20


@torch.no_grad()
def knn_excluding_self(vectors: Tensor, k: int, block_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The ``k`` other rows with the largest inner product with every row, nearest first, block by block.

    Of equally near rows the first are taken. For cosine similarities give rows of length 1. Nothing is recorded for derivatives.

    Args:
        vectors: ``[N, D]``.
        k: Fewer than N.
        block_size: Rows compared at once; as many as fit 64 MB where not given.

    Yields:
        Inner products and rows of ``vectors``, ``[rows of a block, k]`` each.

    >>> [(similarity, position)] = knn_excluding_self(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), 1)
    >>> position.flatten()
    tensor([2, 2, 1])
    """
    block_size = block_size or max(1, BLOCK_BYTES // (vectors.element_size() * max(1, len(vectors))))
    for start in range(0, vectors.shape[0], block_size):
        similarity = vectors[start : start + block_size] @ vectors.T
        own = torch.arange(similarity.shape[0], device=vectors.device)
        similarity[own, own + start] = -torch.inf
        yield order_by_similarity(*largest(similarity, k))


@torch.no_grad()
def knn_among(vectors: Tensor, pool: Tensor, k: int, block_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The ``k`` rows of a pool with the largest inner product with every row, itself never among them, block by block.

    As :func:`knn_excluding_self`, but only some may be found. Rows for which the pool is too small have -inf as inner product.

    Args:
        vectors: ``[N, D]``.
        pool: Rows ``[P]`` that may be found, ascending.
        k: At most P.
        block_size: Rows compared at once; as many as fit 64 MB where not given.

    Yields:
        Inner products and rows of ``vectors``, ``[rows of a block, k]`` each.

    >>> [(similarity, row)] = knn_among(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 1]), 1)
    >>> row.flatten()
    tensor([1, 0, 1])
    """
    block_size = block_size or max(1, BLOCK_BYTES // (vectors.element_size() * max(1, len(pool))))
    chosen = vectors[pool]
    for start in range(0, len(vectors), block_size):
        similarity = vectors[start : start + block_size] @ chosen.T
        rows = torch.arange(start, start + len(similarity), device=pool.device)
        similarity = similarity.masked_fill_(rows[:, None] == pool, -torch.inf)
        values, column = order_by_similarity(*largest(similarity, k))
        yield values, pool[column]


def knn_edges_to_pool(vectors: Tensor, present: Tensor, pool: Tensor, k: int) -> Tensor:
    """Edges ``[2, E]`` to every row that is present from the ``k`` rows of a pool that are nearest to it by inner product.

    Args:
        vectors: ``[N, D]``.
        present: Which rows there are ``[N]``.
        pool: Which rows may be found ``[N]``; all of them present.
        k: At most, where the pool is smaller.

    >>> present, pool = torch.tensor([True, True, True, False]), torch.tensor([True, True, False, False])
    >>> knn_edges_to_pool(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 1.0]]), present, pool, 1)
    tensor([[1, 0, 1],
            [0, 1, 2]])
    """
    rows = pool.nonzero().flatten()
    similarity, source = (torch.cat(part) for part in zip(*knn_among(vectors, rows, min(k, len(rows))), strict=True))
    target = torch.arange(len(present), device=rows.device)[:, None].expand_as(source)
    exists = present[:, None] & similarity.isfinite()
    return torch.stack([source[exists], target[exists]])


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values of every row and their columns ``[n, k]``; of equal values the first columns, in no order.

    >>> largest(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 2)[1].sort().values
    tensor([[0, 1]])
    """
    if k in (0, values.shape[1]):
        return values[:, :k], torch.arange(k, device=values.device).expand(values.shape[0], k)
    ranked, column = values.topk(k + 1, dim=1)
    top, column, least = ranked[:, :k], column[:, :k], ranked[:, k - 1 : k]
    tied = (ranked[:, k] == least[:, 0]).nonzero().flatten()  # there topk takes any of the equal ones
    for rows in tied.split(max(1, values.shape[0] // 8)):  # a part at a time, to hold little more than the values
        among, bound = values[rows], least[rows]
        equal = among == bound
        kept = among > bound
        room = k - kept.sum(1, keepdim=True)
        kept |= equal & (equal.cumsum(1, dtype=torch.int32) <= room)
        column[rows] = kept.nonzero()[:, 1].view(-1, k)
        top[rows] = among.gather(1, column[rows])
    return top, column


def order_by_similarity(similarity: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[n, k]`` sorted by falling similarity, then by position."""
    position, order = position.sort(dim=1)
    similarity, rank = similarity.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarity, position.gather(1, rank)
