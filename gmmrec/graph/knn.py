"""Nearest neighbours by cosine similarity of the features of one modality, without an N x N matrix."""

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn.pool.knn import ApproxMIPSKNNIndex, KNNIndex, MIPSKNNIndex

from gmmrec.config import check_choice, check_positive
from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.nearest import BLOCK_BYTES, knn_excluding_self, order_by_similarity

Weighting: TypeAlias = Literal["binary", "cosine"]
Backend: TypeAlias = Literal["exact", "faiss", "faiss_approximate"]

Blocks: TypeAlias = Iterator[tuple[Tensor, Tensor]]  # similarities and positions, [rows of a block, k] each

MIN_TRAINING = 10_000  # with fewer nodes FAISS's quantiser has too few examples, and exact search takes seconds


def knn_edges(
    features: FeatureTable,
    k: int,
    *,
    include_self: bool = True,
    weighting: Weighting = "binary",
    backend: Backend = "exact",
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return edges from the ``k`` nearest nodes to every node with the modality present.

    Ties are broken in row order. Features with a token axis are averaged over the tokens that are present. Memory is needed for one
    block of similarities, the vectors and the result.

    Args:
        features: One modality of ``N`` nodes; nodes without it are excluded.
        k: Neighbours per node, itself included if ``include_self``; fewer if fewer nodes are present.
        include_self: Whether a node is its own first neighbour.
        weighting: Edge weights: ``"binary"``, 1, or ``"cosine"``, the similarity, between -1 and 1.
        backend: ``"exact"``; ``"faiss"``, exact as well; or ``"faiss_approximate"``, which compresses vectors and visits a part of
            them, for millions of nodes. The latter two need ``pip install gmmrec[faiss]``.
        block_size: Rows compared at once (default: as many as fit 64 MB).

    Returns:
        ``edge_index`` ``[2, E]``, neighbour to node, ascending by node and then nearest first, and ``weight`` ``[E]``.

    Raises:
        UsageError: ``k`` is not positive, ``weighting`` or ``backend`` is unknown, or FAISS is not installed or has too few nodes.

    >>> table = FeatureTable("image", torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]]))
    >>> edge_index, weight = knn_edges(table, 2, weighting="cosine")
    >>> edge_index
    tensor([[0, 2, 1, 2, 2, 0],
            [0, 0, 1, 1, 2, 2]])
    >>> weight
    tensor([1.0000, 0.9487, 1.0000, 0.3162, 1.0000, 0.9487])
    """
    check_positive(k=k)
    check_choice(get_args(Weighting), weighting=weighting)
    check_choice(get_args(Backend), backend=backend)
    rows = features.present.nonzero().flatten()
    vectors = F.normalize(features.pooled[rows].detach(), dim=-1)
    others = min(k - include_self, rows.numel() - 1)
    if others + include_self <= 0:
        return torch.empty(2, 0, dtype=torch.long, device=rows.device), torch.empty(0, device=rows.device)

    size = block_size or block_rows(BLOCK_BYTES, 4 * rows.numel())
    search = knn_excluding_self(vectors, others, size) if backend == "exact" else _faiss(vectors, others, size, backend)
    similarity, neighbor = (torch.cat(parts) for parts in zip(*search, strict=True))
    if include_self:
        neighbor = torch.cat([torch.arange(rows.numel(), device=rows.device)[:, None], neighbor], dim=1)
        similarity = F.pad(similarity, (1, 0), value=1.0)
    edge_index = torch.stack([rows[neighbor.flatten()], rows.repeat_interleave(neighbor.shape[1])])
    return edge_index, similarity.flatten() if weighting == "cosine" else torch.ones_like(similarity).flatten()


def _faiss(vectors: Tensor, k: int, block_size: int, backend: Backend) -> Blocks:
    """Search with FAISS; results as of :func:`~gmmrec.nn.nearest.knn_excluding_self`."""
    index = _faiss_index(vectors, backend)
    candidates = min(k + 1 if backend == "faiss" else 4 * k + 1, vectors.shape[0])  # including the row itself
    step = min(block_size, block_rows(BLOCK_BYTES, 4 * candidates * vectors.shape[1]))
    for start in range(0, vectors.shape[0], step):
        block = vectors[start : start + step]
        position = index.search(block, candidates).index
        similarity = (vectors[position.clamp(min=0)] @ block[:, :, None]).squeeze(-1)  # exact even if FAISS compresses vectors
        row = torch.arange(start, start + block.shape[0], device=vectors.device)[:, None]
        similarity = similarity.masked_fill((position == row) | (position < 0), -torch.inf)  # FAISS pads short lists with -1
        similarity, position = order_by_similarity(similarity, position)
        yield similarity[:, :k], position[:, :k]


def _faiss_index(vectors: Tensor, backend: Backend) -> KNNIndex:
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise UsageError(f"the backend {backend!r} needs FAISS; run `pip install gmmrec[faiss]`") from None
    if backend == "faiss":
        return MIPSKNNIndex(vectors)
    count, dim = vectors.shape
    if count < MIN_TRAINING:
        raise UsageError(
            f"the backend 'faiss_approximate' needs at least {MIN_TRAINING} nodes for training, but only {count} have the "
            "modality; use 'exact'"
        )
    num_cells = max(1, min(4 * math.isqrt(count), count // 39))  # as FAISS advises: 4 sqrt(N) cells, 39 vectors per cell
    bytes_per_vector = max(parts for parts in range(1, max(1, dim // 4) + 1) if dim % parts == 0)  # one byte per 4 numbers
    return ApproxMIPSKNNIndex(num_cells, max(1, num_cells // 8), bytes_per_vector, vectors)
