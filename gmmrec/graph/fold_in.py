"""New users at serving time: nodes that listen to the graph and are not heard by it."""

import copy

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gmmrec.data.ragged import RaggedSets
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ITEM, ITEM_USER, USER


def with_new_users(graph: MultimodalGraph, histories: RaggedSets) -> MultimodalGraph:
    """The graph with a user more for every history, behind the users there are.

    A new user receives edges from the items of the history and sends none, so no vector of an item or of another user changes
    under a model that propagates along edges. A new user has no row in embedding tables (``rows`` is -1 there, ``gather`` yields
    zeros) and no features. Edges weigh ``1 / sqrt(len(history) deg_i)`` with the items' degrees in training, 1 where an item has
    none. They have no rating (0) and no review (padding).

    Args:
        graph: The graph the model was trained on, or any graph with rows of the same tables.
        histories: Items of every new user, as rows of ``graph``.

    Raises:
        ValueError: A history names an item that the graph does not have.
    """
    num_users, num_items, num_new = graph.num_nodes(USER), graph.num_nodes(ITEM), len(histories)
    if histories.values.numel() and not 0 <= int(histories.values.min()) <= int(histories.values.max()) < num_items:
        raise ValueError(f"histories must name items 0 to {num_items - 1}, but hold {int(histories.values.max())}")
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

    for edge_type in data.edge_types:  # every relation with users learns their new number
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
    """Zeros (or False) behind the rows that there are."""
    return torch.cat([values, values.new_zeros(count, *values.shape[1:])])
