"""Inputs of item-item models: user histories and item-item weights of a graph."""

from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.decoder.history import history_matrix
from gmmrec.typing import ITEM, ITEM_USER, USER


def histories(graph: MultimodalGraph, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights ``[I, I]`` between the items of a graph, and the histories (sparse ``[U, I]``) of its users.

    Args:
        graph: Graph of the users and items; in a subgraph, histories are limited to the sampled edges.
        weights: Weights between all items of the data set; row: the item of a history, column: the candidate.

    Returns:
        Inputs of :func:`gmmrec.nn.decoder.history.history_scores`. On the whole graph the weights are not copied.
    """
    rows = graph.gather(ITEM, weights)
    selected = rows if rows is weights else graph.gather(ITEM, rows.t()).t().contiguous()
    edge_index = graph.edges(ITEM_USER).edge_index
    return selected, history_matrix(edge_index, graph.num_nodes(ITEM), graph.num_nodes(USER))
