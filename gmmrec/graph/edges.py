"""Pure functions on edges: normalisation, co-occurrence, and edge dropout."""

from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from gmmrec.config import check_choice, check_positive
from gmmrec.data.interactions import Interactions
from gmmrec.errors import UsageError
from gmmrec.typing import ITEM, NodeType

CoOccurrence: TypeAlias = Literal["count", "cosine"]


def normalize(
    edge_index: Tensor,
    sizes: tuple[int, int],
    weight: Tensor | None = None,
    *,
    degrees: Literal["both_ends", "incoming"] = "both_ends",
) -> Tensor:
    r"""Normalise edge weights symmetrically, :math:`w_{ji} / \sqrt{d_j d_i}` for an edge from j to i.

    Args:
        edge_index: Sources and targets ``[2, E]``.
        sizes: Number of source and of target nodes.
        weight: One weight per edge ``[E]``, at least 0 (default: ones).
        degrees: ``"both_ends"``: sums of the source's outgoing and the target's incoming weights, for two node types.
            ``"incoming"``: sums of the incoming weights at either end, for k-NN graphs of one node type, where a row of the
            adjacency matrix holds the neighbours of a node and degrees are row sums (LATTICE, FREEDOM).

    Returns:
        Weights ``[E]`` (float32); 0, never NaN, if an end has degree 0.

    >>> normalize(torch.tensor([[0, 0, 1], [0, 1, 1]]), (2, 2))
    tensor([0.7071, 0.5000, 0.7071])
    """
    check_choice(("both_ends", "incoming"), degrees=degrees)
    source, target = edge_index[0], edge_index[1]
    weight = torch.ones(source.shape, device=source.device) if weight is None else weight.float()
    incoming = weight.new_zeros(sizes[1]).index_add_(0, target, weight)
    outgoing = incoming if degrees == "incoming" else weight.new_zeros(sizes[0]).index_add_(0, source, weight)
    product = outgoing.index_select(0, source) * incoming.index_select(0, target)
    return torch.where(product > 0, weight * product.clamp(min=torch.finfo(product.dtype).tiny).rsqrt(), 0.0)


def cooccurrence_edges(
    interactions: Interactions,
    num_nodes: int,
    k: int,
    *,
    node_type: NodeType = ITEM,
    weighting: CoOccurrence = "count",
    block_entries: int = 2**22,
) -> tuple[Tensor, Tensor]:
    """Return edges to every item from the ``k`` items that share the most users with it; analogously for users.

    Repeated pairs count once. Ties are broken in row order, and a node is never its own neighbour. Memory is needed for the
    products of one block and for the result.

    Args:
        interactions: User-item interactions.
        num_nodes: Number of items, or of users.
        k: Neighbours per node; fewer if fewer have anything in common with it.
        node_type: End of the interactions to connect.
        weighting: Edge weights, by which neighbours are also selected. ``"count"``: number of common users; ``"cosine"``: the count
            divided by the root of the product of both items' numbers of users.
        block_entries: Maximum number of entries of the product of all nodes with all nodes held at once.

    Returns:
        ``edge_index`` ``[2, E]``, neighbour to node, ascending by node and then best first, and ``weight`` ``[E]`` (float32).

    Raises:
        UsageError: ``k`` is not positive or ``weighting`` is unknown.

    >>> log = Interactions(user=torch.tensor([0, 0, 1, 1, 1]), item=torch.tensor([0, 1, 0, 1, 2]))
    >>> cooccurrence_edges(log, 3, k=1)
    (tensor([[1, 0, 0],
            [0, 1, 2]]), tensor([2., 2., 1.]))
    """
    check_positive(k=k, block_entries=block_entries)
    check_choice(get_args(CoOccurrence), weighting=weighting)
    node, other = (interactions.item, interactions.user) if node_type == ITEM else (interactions.user, interactions.item)
    size, device = int(other.max()) + 1 if other.numel() else 1, node.device
    pairs = torch.unique(node * size + other).cpu().numpy()
    incidence = csr_array((np.ones(pairs.size), (pairs // size, pairs % size)), shape=(num_nodes, size))
    if weighting == "cosine":
        degrees = np.diff(incidence.indptr)
        incidence.data /= np.sqrt(np.repeat(degrees, degrees))
    transposed = incidence.T.tocsr()
    reach = np.add.reduceat(np.append(np.diff(transposed.indptr)[incidence.indices], 0), incidence.indptr[:-1])
    entries = np.minimum(np.where(np.diff(incidence.indptr) > 0, reach, 0), num_nodes).cumsum()  # upper bound of entries so far
    starts = [*np.unique(entries // block_entries, return_index=True)[1], num_nodes]
    blocks = [_best_columns(incidence[i:j] @ transposed, i, k) for i, j in pairwise(starts)]
    node, neighbor, weight = (torch.from_numpy(np.concatenate(parts)).to(device) for parts in zip(*blocks, strict=True))
    return torch.stack([neighbor, node]).long(), weight.float()


def _best_columns(block: csr_array, first: int, k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return row, column and value of the ``k`` largest off-diagonal entries of every row; rows start at ``first``."""
    block.sort_indices()
    row, column = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)), block.indices.astype(np.int64)
    value = np.round(block.data, 12)  # makes sums of the same terms in different order equal
    row, column, value = (part[column != row + first] for part in (row, column, value))
    order = np.lexsort((-value, row))  # stable: equal values stay in column order
    row, column, value = row[order], column[order], value[order]
    begins = np.searchsorted(row, row)
    best = np.arange(row.size) - begins < k
    return row[best] + first, column[best], value[best]


def drop_edges(edge_index: Tensor, keep_count: int, probability: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the edges to keep, sequentially without replacement, each with a chance proportional to its ``probability``.

    All draws are made at once, as a race: an edge arrives after an exponential time with rate ``probability``, and the first
    ``keep_count`` stay (Efraimidis & Spirakis, 2006). Unlike ``torch.multinomial``, this supports more than 2^24 edges.

    Args:
        edge_index: Sources and targets ``[2, E]``.
        keep_count: Number of edges to keep.
        probability: Unnormalised probabilities ``[E]``, at least 0. Edges of probability 0 are never kept.
        generator: Random generator of the draw, on the device of ``probability``.

    Returns:
        Positions ``[keep_count]`` in ``edge_index``, ascending.

    Raises:
        UsageError: ``keep_count`` is negative or exceeds the number of edges with a positive probability.

    >>> edges = torch.tensor([[0, 1, 2], [0, 0, 0]])
    >>> drop_edges(edges, 2, torch.tensor([0.5, 0.0, 0.1]), torch.Generator())
    tensor([0, 2])
    """
    possible = int((probability > 0).sum())
    if not 0 <= keep_count <= possible:
        raise UsageError(
            f"keep_count must lie between 0 and {possible}, the number of edges with a positive probability, but is {keep_count}"
        )
    rate = probability.double()
    arrival = torch.empty_like(rate).exponential_(generator=generator) / rate  # infinity for rate 0
    return arrival.topk(keep_count, largest=False).indices.sort().values
