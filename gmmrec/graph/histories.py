"""What item-item models encode: the histories of users, and the weights between the items of a graph."""

from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.decoder.history import history_matrix
from gmmrec.typing import ITEM, ITEM_USER, USER


def histories(graph: MultimodalGraph, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[I, I]`` between the items of a graph, and histories (sparse ``[U, I]``) of its users.

    Args:
        graph: Whose users and items; in a sampled subgraph histories are as long as they were sampled.
        weights: Between all items of the data set; the row says whose voice it is, the column about what.

    Returns:
        What :func:`gmmrec.nn.decoder.history.history_scores` takes. On the whole graph the weights are not copied.
    """
    by_item = graph.gather(ITEM, weights)
    own = by_item if by_item is weights else graph.gather(ITEM, by_item.t()).t().contiguous()
    edge_index = graph.edges(ITEM_USER).edge_index
    return own, history_matrix(edge_index, graph.num_nodes(ITEM), graph.num_nodes(USER))
