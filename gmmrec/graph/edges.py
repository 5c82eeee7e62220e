"""Pure functions on edges: weights, co-occurrence, and dropping without replacement."""

from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from gmmrec.config import check_choice, check_positive
from gmmrec.data.interactions import Interactions
from gmmrec.typing import ITEM, NodeType

CoOccurrence: TypeAlias = Literal["count", "cosine"]


def normalize(
    edge_index: Tensor,
    sizes: tuple[int, int],
    weight: Tensor | None = None,
    *,
    degrees: Literal["both_ends", "incoming"] = "both_ends",
) -> Tensor:
    r"""Symmetric normalisation, :math:`w_{ji} / \sqrt{d_j d_i}` for an edge from j to i.

    Args:
        edge_index: Sources and targets ``[2, E]``.
        sizes: Number of source and of target nodes.
        weight: A weight an edge ``[E]``, at least 0; ones where not given.
        degrees: ``"both_ends"``: the source's weights going out and the target's coming in, the reading for two node types.
            ``"incoming"``: at either end the weights coming in, the reading for k-NN graphs of one node type, where a row of the
            adjacency holds a node's own neighbours and degrees are row sums (LATTICE, FREEDOM).

    Returns:
        Weights ``[E]`` (float32); 0, never NaN, where an end has degree 0.

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
    """Edges from the ``k`` items that share the most users with an item, to that item; users by common items likewise.

    Pairs that repeat count once. Equally good nodes are taken in row order, and a node is never its own neighbour. Needs memory for
    the products of one block and for the result.

    Args:
        interactions: Who touched what.
        num_nodes: Number of items (of users, where they are joined).
        k: Neighbours a node; fewer where fewer share anything with it.
        node_type: Which end of the interactions is joined.
        weighting: ``"count"``: common users; ``"cosine"``: divided by the root of the product of both items' numbers of users. It
            is both what edges weigh and what neighbours are chosen by.
        block_entries: How many entries of the product of all nodes with all nodes may be held at once.

    Returns:
        ``edge_index`` ``[2, E]``, neighbour to node, ascending by node and then best first, and ``weight`` ``[E]`` (float32).

    Raises:
        ValueError: ``k`` is not positive or a choice is unknown.

    >>> log = Interactions(user=torch.tensor([0, 0, 1, 1, 1]), item=torch.tensor([0, 1, 0, 1, 2]))
    >>> cooccurrence_edges(log, 3, k=1)
    (tensor([[1, 0, 0],
            [0, 1, 2]]), tensor([2., 2., 1.]))
    """
    check_positive(k=k, block_entries=block_entries)
    check_choice(get_args(CoOccurrence), weighting=weighting)
    own, other = (interactions.item, interactions.user) if node_type == ITEM else (interactions.user, interactions.item)
    size = int(other.max()) + 1 if other.numel() else 1
    pairs = torch.unique(own * size + other).cpu().numpy()
    touched = csr_array((np.ones(pairs.size), (pairs // size, pairs % size)), shape=(num_nodes, size))
    if weighting == "cosine":
        degrees = np.diff(touched.indptr)
        touched.data /= np.sqrt(np.repeat(degrees, degrees))
    transposed = touched.T.tocsr()
    reach = np.add.reduceat(np.append(np.diff(transposed.indptr)[touched.indices], 0), touched.indptr[:-1])
    filled = np.minimum(np.where(np.diff(touched.indptr) > 0, reach, 0), num_nodes).cumsum()  # at most so many entries so far
    starts = [*np.unique(filled // block_entries, return_index=True)[1], num_nodes]
    blocks = [_best_columns(touched[i:j] @ transposed, i, k) for i, j in pairwise(starts)]
    node, neighbor, weight = (torch.from_numpy(np.concatenate(parts)).to(own.device) for parts in zip(*blocks, strict=True))
    return torch.stack([neighbor, node]).long(), weight.float()


def _best_columns(block: csr_array, first: int, k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row, column and value of the ``k`` largest entries of every row off the diagonal; rows begin at ``first``."""
    block.sort_indices()
    row, column = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)), block.indices.astype(np.int64)
    value = np.round(block.data, 12)  # sums of the same shares in another order are equal
    row, column, value = (part[column != row + first] for part in (row, column, value))
    order = np.lexsort((-value, row))  # stable: equal values stay in the order of their columns
    row, column, value = row[order], column[order], value[order]
    begins = np.searchsorted(row, row)
    best = np.arange(row.size) - begins < k
    return row[best] + first, column[best], value[best]


def drop_edges(edge_index: Tensor, keep_count: int, probability: Tensor, generator: torch.Generator) -> Tensor:
    """Draws the edges that stay, without replacement: each next one with a chance proportional to its ``probability``.

    All draws are made at once, as a race: an edge arrives after an exponential time with rate ``probability``, and the first
    ``keep_count`` stay (Efraimidis & Spirakis, 2006). Unlike ``torch.multinomial`` it takes more than 2^24 edges.

    Args:
        edge_index: Sources and targets ``[2, E]``.
        keep_count: Number of edges that stay.
        probability: Relative chances ``[E]``, at least 0; they need not sum to 1. Edges of chance 0 are never kept.
        generator: Source of the draw, on the device of ``probability``.

    Returns:
        Positions ``[keep_count]`` in ``edge_index``, ascending.

    Raises:
        ValueError: More edges are to stay than have a chance.

    >>> edges = torch.tensor([[0, 1, 2], [0, 0, 0]])
    >>> drop_edges(edges, 2, torch.tensor([0.5, 0.0, 0.1]), torch.Generator())
    tensor([0, 2])
    """
    possible = int((probability > 0).sum())
    if not 0 <= keep_count <= possible:
        raise ValueError(f"keep_count must lie between 0 and {possible}, the edges with a chance, but is {keep_count}")
    rate = probability.double()
    arrival = torch.empty_like(rate).exponential_(generator=generator) / rate  # never for rate 0
    return arrival.topk(keep_count, largest=False).indices.sort().values
