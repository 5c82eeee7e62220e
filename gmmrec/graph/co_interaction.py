"""Co-interaction graphs of one node type: users who share items, or items that share users."""

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import coalesce

from gmmrec.config import check_choice
from gmmrec.data.interactions import Interactions
from gmmrec.graph.edges import cooccurrence_edges, normalize
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import USER_ITEM, NodeType


def co_interaction_graph(
    graph: MultimodalGraph, node_type: NodeType, *, k: int, weights: Literal["count", "cosine", "binary"] = "count"
) -> tuple[Tensor, Tensor]:
    """Connect every node to the ``k`` nodes with the most common neighbours; two nodes are connected if either selects the other.

    Args:
        graph: Graph with the training interactions.
        node_type: ``"user"``, connected by common items, or ``"item"``, connected by common users.
        k: Neighbours selected per node; ties go to the lower rows.
        weights: Edge weights before normalisation: ``"count"``, the number of common neighbours; ``"cosine"``, the count divided by
            the root of the product of the degrees; or ``"binary"``, 1.

    Returns:
        Edges ``[2, E]`` in both directions without self-loops, and weights ``[E]``, divided by the root of the product of the
        weight sums at both ends.
    """
    check_choice(("count", "cosine", "binary"), weights=weights)
    interactions, num_nodes = Interactions(*graph.edges(USER_ITEM).edge_index.as_tensor()), graph.num_nodes(node_type)
    weighting: Literal["count", "cosine"] = "cosine" if weights == "cosine" else "count"
    edge_index, weight = cooccurrence_edges(interactions, num_nodes, k, node_type=node_type, weighting=weighting)
    if weights == "binary":
        weight = torch.ones_like(weight)
    both_ways = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    edge_index, weight = coalesce(both_ways, torch.cat([weight, weight]), num_nodes=num_nodes, reduce="max")
    return edge_index, normalize(edge_index, (num_nodes, num_nodes), weight)
