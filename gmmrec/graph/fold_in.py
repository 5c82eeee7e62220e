"""New users at serving time: nodes that receive messages but send none."""

import copy

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gmmrec.data.ragged import RaggedSets
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ITEM, ITEM_USER, USER


def with_new_users(graph: MultimodalGraph, histories: RaggedSets) -> MultimodalGraph:
    """Append one user per history to the graph.

    A new user has incoming edges from the items of the history and no outgoing ones, so propagation changes no vector of an item or
    of another user. A new user has no row in embedding tables (``rows`` is -1, ``gather`` yields zeros) and no features. Edges have
    the weight ``1 / sqrt(len(history) deg_i)`` with the item's training degree, at least 1. They have no rating (0) and no review
    (padding).

    Args:
        graph: The graph the model was trained on, or any graph with rows of the same tables.
        histories: Items of every new user, as rows of ``graph``.

    Raises:
        UsageError: A history contains an unknown item.
    """
    num_users, num_items, num_new = graph.num_nodes(USER), graph.num_nodes(ITEM), len(histories)
    if histories.values.numel() and not 0 <= int(histories.values.min()) <= int(histories.values.max()) < num_items:
        raise UsageError(f"histories must name items 0 to {num_items - 1}, but hold {int(histories.values.max())}")
    device = graph.degree(USER).device
    histories = histories.to(device)
    data = copy.copy(graph.data)

    users = data[USER]
    users.num_nodes = num_users + num_new
    users.n_id = torch.cat([graph.rows(USER), torch.full((num_new,), -1, device=device)])
    users.degree = torch.cat([graph.degree(USER), histories.counts.float()])
    for name in graph.schema.modalities(USER):
        users[name] = _padded(users[name], num_new)
        users[f"{name}_mask"] = _padded(users[f"{name}_mask"], num_new)

    for edge_type in data.edge_types:  # every relation with users gets their new number
        source, _, target = edge_type
        sizes = (data[source].num_nodes, data[target].num_nodes)
        plain = data[edge_type].edge_index.as_tensor()
        if edge_type == ITEM_USER:
            incoming = torch.stack([histories.values, num_users + histories.groups])
            plain = torch.cat([plain, incoming], dim=1)  # still sorted by target
            item_degree = graph.degree(ITEM)[histories.values].clamp(min=1)
            weight = (histories.counts[histories.groups] * item_degree).rsqrt()
            data[edge_type].edge_weight = torch.cat([data[edge_type].edge_weight, weight])
            for name in ("rating", "text"):
                if name in data[edge_type]:
                    data[edge_type][name] = _padded(data[edge_type][name], incoming.shape[1])
        if USER in (source, target):
            data[edge_type].edge_index = EdgeIndex(plain, sparse_size=sizes, sort_order="col")
    return MultimodalGraph(data, graph.schema)


def _padded(values: Tensor, count: int) -> Tensor:
    """Append rows of zeros (or False)."""
    return torch.cat([values, values.new_zeros(count, *values.shape[1:])])
