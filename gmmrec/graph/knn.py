"""Nearest neighbours among the feature vectors of one modality, by cosine similarity; never an N x N matrix."""

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn.pool.knn import ApproxMIPSKNNIndex, KNNIndex, MIPSKNNIndex

from gmmrec.config import check_choice, check_positive
from gmmrec.data.features import FeatureTable
from gmmrec.nn.nearest import BLOCK_BYTES, knn_excluding_self, order_by_similarity

Weighting: TypeAlias = Literal["binary", "cosine"]
Backend: TypeAlias = Literal["exact", "faiss", "faiss_approximate"]

Found: TypeAlias = Iterator[tuple[Tensor, Tensor]]  # similarities and positions, [rows of a block, k] each

MIN_TRAINING = 10_000  # below, FAISS's quantiser has too few examples and the exact search takes seconds


def knn_edges(
    features: FeatureTable,
    k: int,
    *,
    include_self: bool = True,
    weighting: Weighting = "binary",
    backend: Backend = "exact",
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Edges from the ``k`` nearest nodes to every node that has the modality.

    Equally near nodes are taken in row order. Features with a token axis are averaged over the tokens that are present. Needs
    memory for one block of similarities, the vectors and the result.

    Args:
        features: One modality of ``N`` nodes; masked nodes take no part.
        k: Neighbours a node, itself included where ``include_self``; all there are where fewer are present.
        include_self: Whether a node is its own first neighbour.
        weighting: ``"binary"`` weighs every edge 1, ``"cosine"`` by similarity, between -1 and 1.
        backend: ``"exact"``; ``"faiss"``, exact as well; or ``"faiss_approximate"``, which compresses vectors and visits a part of
            them, for millions of nodes. The latter two need ``pip install gmmrec[faiss]``.
        block_size: Rows compared at once; as many as fit 64 MB where not given.

    Returns:
        ``edge_index`` ``[2, E]``, neighbour to node, ascending by node and then nearest first, and ``weight`` ``[E]``.

    Raises:
        ValueError: ``k`` is not positive, a choice is unknown, or FAISS is not installed or cannot be trained on so few nodes.

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

    size = block_size or max(1, BLOCK_BYTES // (4 * rows.numel()))
    search = knn_excluding_self(vectors, others, size) if backend == "exact" else _faiss(vectors, others, size, backend)
    similarity, neighbor = (torch.cat(parts) for parts in zip(*search, strict=True))
    if include_self:
        neighbor = torch.cat([torch.arange(rows.numel(), device=rows.device)[:, None], neighbor], dim=1)
        similarity = F.pad(similarity, (1, 0), value=1.0)
    edge_index = torch.stack([rows[neighbor.flatten()], rows.repeat_interleave(neighbor.shape[1])])
    return edge_index, similarity.flatten() if weighting == "cosine" else torch.ones_like(similarity).flatten()


def _faiss(vectors: Tensor, k: int, block_size: int, backend: Backend) -> Found:
    """The same through FAISS."""
    index = _faiss_index(vectors, backend)
    candidates = min(k + 1 if backend == "faiss" else 4 * k + 1, vectors.shape[0])  # the row itself is among them
    step = max(1, min(block_size, BLOCK_BYTES // (4 * candidates * vectors.shape[1])))
    for start in range(0, vectors.shape[0], step):
        block = vectors[start : start + step]
        position = index.search(block, candidates).index
        similarity = (vectors[position.clamp(min=0)] @ block[:, :, None]).squeeze(-1)  # exact, also of compressed vectors
        own = torch.arange(start, start + block.shape[0], device=vectors.device)[:, None]
        similarity = similarity.masked_fill((position == own) | (position < 0), -torch.inf)  # -1 pads too short a list
        similarity, position = order_by_similarity(similarity, position)
        yield similarity[:, :k], position[:, :k]


def _faiss_index(vectors: Tensor, backend: Backend) -> KNNIndex:
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise ValueError(f"the backend {backend!r} needs FAISS; run `pip install gmmrec[faiss]`") from None
    if backend == "faiss":
        return MIPSKNNIndex(vectors)
    count, dim = vectors.shape
    if count < MIN_TRAINING:
        raise ValueError(
            f"the backend 'faiss_approximate' learns its cells from at least {MIN_TRAINING} nodes, but only {count} have the "
            "modality; use 'exact'"
        )
    num_cells = max(1, min(4 * math.isqrt(count), count // 39))  # FAISS's own advice: 4 sqrt(N) cells, 39 vectors a cell
    bytes_a_vector = max(parts for parts in range(1, max(1, dim // 4) + 1) if dim % parts == 0)  # a byte for 4 numbers
    return ApproxMIPSKNNIndex(num_cells, max(1, num_cells // 8), bytes_a_vector, vectors)
