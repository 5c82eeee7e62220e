"""From tables to a graph: training interactions, features, and the relations that are asked for."""

import torch
from torch_geometric.data import HeteroData

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.graph.edges import normalize
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph, sort_edges
from gmmrec.typing import ITEM, ITEM_USER, USER, USER_ITEM


def build_graph(dataset: Dataset, split: Split) -> MultimodalGraph:
    """The graph of the training interactions."""
    data = HeteroData()
    sizes = {USER: dataset.num_users, ITEM: dataset.num_items}
    for node_type, count in sizes.items():
        data[node_type].num_nodes = count
    for name, table in dataset.features.items():
        data[table.node_type][name] = table.values
        data[table.node_type][f"{name}_mask"] = table.mask
    _add_interactions(data, split.train)
    schema = GraphSchema(
        num_nodes=sizes,
        feature_dims={name: table.dim for name, table in dataset.features.items()},
        feature_nodes={name: table.node_type for name, table in dataset.features.items()},
        relations=(USER_ITEM, ITEM_USER),
    )
    return MultimodalGraph(data, schema)


def _add_interactions(data: HeteroData, train: Interactions) -> None:
    num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
    pairs = torch.unique(train.user * num_items + train.item)  # a pair that repeats is one edge
    users, items = pairs // num_items, pairs % num_items
    data[USER].degree = torch.bincount(users, minlength=num_users).float()
    data[ITEM].degree = torch.bincount(items, minlength=num_items).float()
    for edge_type, ends, size in (
        (USER_ITEM, (users, items), (num_users, num_items)),
        (ITEM_USER, (items, users), (num_items, num_users)),
    ):
        edge_index = torch.stack(ends)
        edges = sort_edges(edge_index, normalize(edge_index, size), size)
        data[edge_type].edge_index, data[edge_type].edge_weight = edges
