"""Nearest-neighbour search by inner product, in blocks, without an N x N matrix."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gmmrec.nn.blocks import block_rows

BLOCK_BYTES = 64 * 2**20


@torch.no_grad()
def knn_excluding_self(vectors: Tensor, k: int, block_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Find the ``k`` other rows with the largest inner product for every row, nearest first, block by block.

    Ties go to the lower rows. For cosine similarity, pass unit vectors. No gradients are recorded.

    Args:
        vectors: ``[N, D]``.
        k: Number of neighbours, less than N.
        block_size: Rows compared at once (default: as many as fit 64 MB).

    Yields:
        Inner products and rows of ``vectors``, ``[rows of a block, k]`` each.

    >>> [(similarity, position)] = knn_excluding_self(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), 1)
    >>> position.flatten()
    tensor([2, 2, 1])
    """
    block_size = block_size or block_rows(BLOCK_BYTES, vectors.element_size() * len(vectors))
    for start in range(0, vectors.shape[0], block_size):
        similarity = vectors[start : start + block_size] @ vectors.T
        row = torch.arange(similarity.shape[0], device=vectors.device)
        similarity[row, row + start] = -torch.inf
        yield order_by_similarity(*largest(similarity, k))


@torch.no_grad()
def knn_among(vectors: Tensor, pool: Tensor, k: int, block_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Find the ``k`` rows of a pool, itself excluded, with the largest inner product for every row, block by block.

    Like :func:`knn_excluding_self`, with neighbours restricted to the pool. If the pool is too small for a row, the inner products
    that are left over are -inf.

    Args:
        vectors: ``[N, D]``.
        pool: Rows that may be neighbours ``[P]``, ascending.
        k: Number of neighbours, at most P.
        block_size: Rows compared at once (default: as many as fit 64 MB).

    Yields:
        Inner products and rows of ``vectors``, ``[rows of a block, k]`` each.

    >>> [(similarity, row)] = knn_among(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 1]), 1)
    >>> row.flatten()
    tensor([1, 0, 1])
    """
    block_size = block_size or block_rows(BLOCK_BYTES, vectors.element_size() * len(pool))
    chosen = vectors[pool]
    for start in range(0, len(vectors), block_size):
        similarity = vectors[start : start + block_size] @ chosen.T
        rows = torch.arange(start, start + len(similarity), device=pool.device)
        similarity = similarity.masked_fill_(rows[:, None] == pool, -torch.inf)
        values, column = order_by_similarity(*largest(similarity, k))
        yield values, pool[column]


def knn_edges_to_pool(vectors: Tensor, present: Tensor, pool: Tensor, k: int) -> Tensor:
    """Return edges ``[2, E]`` to every present row from the ``k`` rows of a pool with the largest inner product.

    Args:
        vectors: ``[N, D]``.
        present: Boolean mask ``[N]`` of the rows that get edges.
        pool: Boolean mask ``[N]`` of the rows that may be neighbours; all of them present.
        k: Number of neighbours; fewer if the pool is smaller.

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
    """Return the ``k`` largest values of every row and their columns ``[n, k]``, unordered; ties go to the first columns.

    >>> largest(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 2)[1].sort().values
    tensor([[0, 1]])
    """
    if k in (0, values.shape[1]):
        return values[:, :k], torch.arange(k, device=values.device).expand(values.shape[0], k)
    ranked, column = values.topk(k + 1, dim=1)
    top, column, least = ranked[:, :k], column[:, :k], ranked[:, k - 1 : k]
    tied = (ranked[:, k] == least[:, 0]).nonzero().flatten()  # where topk picks any of the equal values
    for rows in tied.split(max(1, values.shape[0] // 8)):  # in parts, to hold little more than the values
        block, bound = values[rows], least[rows]
        equal = block == bound
        selected = block > bound
        room = k - selected.sum(1, keepdim=True)
        selected |= equal & (equal.cumsum(1, dtype=torch.int32) <= room)
        column[rows] = selected.nonzero()[:, 1].view(-1, k)
        top[rows] = block.gather(1, column[rows])
    return top, column


def order_by_similarity(similarity: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Sort every row ``[n, k]`` by descending similarity, then by position."""
    position, order = position.sort(dim=1)
    similarity, rank = similarity.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarity, position.gather(1, rank)
