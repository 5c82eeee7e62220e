"""Graphs of several models as one, and each model's own view of it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch_geometric.data import HeteroData

from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.typing import EdgeType


def merge(graphs: Sequence[MultimodalGraph]) -> MultimodalGraph:
    """Merge graphs of the same nodes into one that holds the features and relations of all.

    Relations that are not the same in all graphs are named after their position (``"0/frozen_knn"``).

    Raises:
        ValueError: The graphs differ in their nodes, or in features of one name.
    """
    first = graphs[0]
    data, features = HeteroData(), dict[str, FeatureTable]()
    for node_type in first.data.node_types:
        for name, value in first.data[node_type].items():
            data[node_type][name] = value
    for position, graph in enumerate(graphs):
        if graph.schema.num_nodes != first.schema.num_nodes:
            raise ValueError(f"graph {position} has other numbers of nodes than graph 0; use runs of the same data set")
        for name, table in graph.features.items():
            known = features.setdefault(name, table)
            if not _same_features(known, table):
                raise ValueError(
                    f"features {name!r} of graph {position} are not those of the graphs before; use runs of the same data set"
                )
            data[table.node_type][name], data[table.node_type][f"{name}_mask"] = table.values, table.mask
    shared = [kind for kind in first.data.edge_types if all(_same_edges(first, graph, kind) for graph in graphs[1:])]
    for position, graph in enumerate(graphs):
        for kind in graph.data.edge_types:
            source, name, target = kind
            own: EdgeType = kind if kind in shared else (source, f"{position}/{name}", target)
            for key, value in graph.data[kind].items():
                if key in ("rating", "text") and not torch.equal(data[own].get(key, value), value):
                    raise ValueError(f"graph {position} has another {key} of some interactions; use runs of the same data settings")
                data[own][key] = value
    schema = GraphSchema(
        num_nodes=first.schema.num_nodes,
        feature_dims={name: table.dim for name, table in features.items()},
        feature_nodes={name: table.node_type for name, table in features.items()},
        relations=tuple(data.edge_types),
        num_words=max(graph.schema.num_words for graph in graphs),
    )
    return MultimodalGraph(data, schema)


def view(graph: MultimodalGraph, position: int, schema: GraphSchema) -> MultimodalGraph:
    """Return what one model sees of a merged graph, without a copy: shared relations and its own, under the names it knows.

    Args:
        graph: From :func:`merge`, with or without new users.
        position: Of the model among the members.
        schema: The one that the model was built with.
    """
    data = HeteroData()
    for node_type in graph.data.node_types:
        for key, value in graph.data[node_type].items():
            data[node_type][key] = value
    for kind in graph.data.edge_types:
        source, name, target = kind
        owner, slash, own = name.partition("/")
        if slash and owner.isdigit():
            if int(owner) != position:
                continue
            kind = (source, own, target)
        for key, value in graph.data[(source, name, target)].items():
            data[kind][key] = value
    return MultimodalGraph(data, replace(schema, relations=tuple(data.edge_types)))


def _same_features(table: FeatureTable, other: FeatureTable) -> bool:
    same_nodes = table.node_type == other.node_type
    return same_nodes and torch.equal(table.values, other.values) and torch.equal(table.mask, other.mask)


def _same_edges(graph: MultimodalGraph, other: MultimodalGraph, kind: EdgeType) -> bool:
    if kind not in other.data.edge_types:
        return False
    (edge_index, weight), (others_index, others_weight) = graph.edges(kind), other.edges(kind)
    same = torch.equal(edge_index.as_tensor(), others_index.as_tensor())
    if weight is None or others_weight is None:
        return same and weight is others_weight
    return same and torch.equal(weight, others_weight)
