"""Merged graphs of several models, and the view of each model."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch_geometric.data import HeteroData

from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.typing import EdgeType


def merge(graphs: Sequence[MultimodalGraph]) -> MultimodalGraph:
    """Merge graphs of the same nodes into one with the features and relations of all.

    Relations that differ between graphs are prefixed with the position of their graph (``"0/frozen_knn"``).

    Raises:
        UsageError: The graphs differ in their nodes, or in features of one name.
    """
    first = graphs[0]
    data, features = HeteroData(), dict[str, FeatureTable]()
    for node_type in first.data.node_types:
        for name, value in first.data[node_type].items():
            data[node_type][name] = value
    for position, graph in enumerate(graphs):
        if graph.schema.num_nodes != first.schema.num_nodes:
            raise UsageError(f"graphs {position} and 0 differ in their numbers of nodes; use runs of the same data set")
        for name, table in graph.features.items():
            known = features.setdefault(name, table)
            if not _same_features(known, table):
                raise UsageError(
                    f"features {name!r} of graph {position} differ from those of earlier graphs; use runs of the same data set"
                )
            data[table.node_type][name], data[table.node_type][f"{name}_mask"] = table.values, table.mask
    shared = [kind for kind in first.data.edge_types if all(_same_edges(first, graph, kind) for graph in graphs[1:])]
    for position, graph in enumerate(graphs):
        for kind in graph.data.edge_types:
            source, name, target = kind
            merged: EdgeType = kind if kind in shared else (source, f"{position}/{name}", target)
            for key, value in graph.data[kind].items():
                if key in ("rating", "text") and not torch.equal(data[merged].get(key, value), value):
                    raise UsageError(
                        f"graph {position} differs in the {key} of some interactions; use runs with the same data settings"
                    )
                data[merged][key] = value
    schema = GraphSchema(
        num_nodes=first.schema.num_nodes,
        feature_dims={name: table.dim for name, table in features.items()},
        feature_nodes={name: table.node_type for name, table in features.items()},
        relations=tuple(data.edge_types),
        num_words=max(graph.schema.num_words for graph in graphs),
    )
    return MultimodalGraph(data, schema)


def view(graph: MultimodalGraph, position: int, schema: GraphSchema) -> MultimodalGraph:
    """Return the view of one model on a merged graph, without a copy: shared relations and its own, under their original names.

    Args:
        graph: From :func:`merge`, with or without new users.
        position: Position of the model among the members.
        schema: Schema the model was built with.
    """
    data = HeteroData()
    for node_type in graph.data.node_types:
        for key, value in graph.data[node_type].items():
            data[node_type][key] = value
    for kind in graph.data.edge_types:
        source, name, target = kind
        owner, slash, original = name.partition("/")
        if slash and owner.isdigit():
            if int(owner) != position:
                continue
            kind = (source, original, target)
        for key, value in graph.data[(source, name, target)].items():
            data[kind][key] = value
    return MultimodalGraph(data, replace(schema, relations=tuple(data.edge_types)))


def _same_features(table: FeatureTable, other: FeatureTable) -> bool:
    same_nodes = table.node_type == other.node_type
    return same_nodes and torch.equal(table.values, other.values) and torch.equal(table.mask, other.mask)


def _same_edges(graph: MultimodalGraph, other: MultimodalGraph, kind: EdgeType) -> bool:
    if kind not in other.data.edge_types:
        return False
    (edge_index, weight), (other_index, other_weight) = graph.edges(kind), other.edges(kind)
    same = torch.equal(edge_index.as_tensor(), other_index.as_tensor())
    if weight is None or other_weight is None:
        return same and weight is other_weight
    return same and torch.equal(weight, other_weight)
