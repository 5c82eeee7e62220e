"""Incoming edges of selected nodes, for sums over these nodes only."""

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gmmrec.nn.propagate import structure_of
from gmmrec.nn.relations import Relation


def edges_into(relation: Relation, nodes: Tensor, num_sources: int, num_targets: int) -> Relation:
    """Return the incoming edges of selected nodes, which are renumbered in the given order.

    The cost is linear in the number of these edges; the rest of the relation is not read.

    Args:
        relation: Edges, preferably an ``EdgeIndex``, which is grouped only once.
        nodes: Distinct targets ``[n]``.
        num_sources: Number of sources of the relation.
        num_targets: Number of targets of the relation.

    Returns:
        Edges ``[2, E']`` (an ``EdgeIndex``) from the sources, numbered as before, to ``0 … n - 1``, ascending, and their weights.

    >>> relation = Relation(torch.tensor([[4, 3, 1], [0, 2, 2]]), torch.tensor([0.1, 0.2, 0.3]))
    >>> edge_index, weight = edges_into(relation, torch.tensor([2, 1, 0]), 5, 3)
    >>> edge_index.tolist(), weight
    ([[3, 1, 4], [0, 0, 2]], tensor([0.2000, 0.3000, 0.1000]))
    """
    indptr, indices, order, _ = structure_of(relation.edge_index, num_sources, num_targets).by_target
    start, count = indptr[nodes].long(), (indptr[nodes + 1] - indptr[nodes]).long()
    target = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), count)
    shift = start - (count.cumsum(0) - count)
    position = shift[target] + torch.arange(len(target), device=nodes.device)
    weight = relation.weight
    if weight is not None:
        weight = weight[position if order is None else order[position]]
    edge_index = torch.stack([indices[position].long(), target])
    return Relation(EdgeIndex(edge_index, sparse_size=(num_sources, len(nodes)), sort_order="col"), weight)
