"""Summary of a graph before training: sizes, degrees, missing data, and the agreement of features with interactions."""

from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import to_networkx as pyg_to_networkx

from gmmrec.data.features import FeatureTable
from gmmrec.graph.knn import knn_edges
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.typing import ITEM, ITEM_USER, USER_ITEM

MAX_PAIRS = 100_000
FLOAT = 4  # bytes


def describe(
    graph: MultimodalGraph, *, generator: torch.Generator, knn: int = 10, dim: int = 64, num_layers: int = 3
) -> dict[str, Any]:
    """Summarise a graph as JSON-serialisable numbers.

    Args:
        graph: A whole graph, on the CPU.
        generator: Random generator of the pairs that neighbours are compared with.
        knn: Neighbours per item in the comparison of features with interactions; 0 skips the comparison.
        dim: Embedding width in the memory forecast.
        num_layers: Number of propagation layers in the memory forecast.
    """
    isolated, components = _connections(graph)
    return {
        "nodes": {
            node_type: {
                "count": graph.num_nodes(node_type),
                "degree": _summary(graph.degree(node_type)),
                "cold": _share(graph.degree(node_type) == 0),
                "isolated": _share(isolated[node_type]),
            }
            for node_type in graph.data.node_types
        },
        "edges": {"-".join(edge_type): graph.edges(edge_type).edge_index.shape[1] for edge_type in graph.data.edge_types},
        "density": graph.edges(USER_ITEM).edge_index.shape[1] / max(1, graph.num_nodes("user") * graph.num_nodes(ITEM)),
        "components": components,
        "modalities": {name: _modality(graph, table, knn, generator) for name, table in graph.features.items()},
        "memory": memory_forecast(graph, dim=dim, num_layers=num_layers),
    }


def memory_forecast(graph: MultimodalGraph, *, dim: int, num_layers: int) -> dict[str, int]:
    """Estimate the bytes, by purpose, for training a model with one embedding table per node type on the whole graph.

    Parameters, gradients and Adam's two moments are exact for LightGCN. Activations are the outputs of every layer for every node,
    kept for the backward pass, and the gradient that flows back. Models with feature projections or attention take more.
    """
    table = FLOAT * dim * sum(graph.num_nodes(node_type) for node_type in graph.data.node_types)
    forecast = {
        "parameters": table,
        "gradients": table,
        "adam": 2 * table,
        "activations": (num_layers + 2) * table,
        "graph": sum(_bytes(value) for store in graph.data.stores for value in store.values() if isinstance(value, Tensor)),
    }
    return {**forecast, "total": sum(forecast.values())}


def agreement(graph: MultimodalGraph, table: FeatureTable, k: int, generator: torch.Generator) -> dict[str, float] | None:
    """Measure how far items with similar features have similar interactions.

    Compare the mean co-interaction cosine (common users over the root of the product of both items' numbers of users) between every
    item and its ``k`` nearest neighbours in one modality with that of random pairs. Items without interactions are excluded; more
    than 100 000 pairs are sampled.

    Returns:
        ``neighbors`` and ``random``, or None if fewer than two items have both the modality and interactions.
    """
    warm = table.present & (graph.degree(ITEM) > 0)
    candidates = warm.nonzero().flatten()
    if candidates.numel() < 2:
        return None
    compared = FeatureTable(table.name, table.values, table.mask & (warm if table.mask.dim() == 1 else warm[:, None]))
    near, _ = knn_edges(compared, k, include_self=False)
    near = near[:, torch.randperm(near.shape[1], generator=generator)[:MAX_PAIRS]]
    first = torch.randint(candidates.numel(), (near.shape[1],), generator=generator)
    step = torch.randint(1, candidates.numel(), (near.shape[1],), generator=generator)
    far = torch.stack([candidates[first], candidates[(first + step) % candidates.numel()]])  # two different items
    return {"neighbors": _cointeraction(graph, near), "random": _cointeraction(graph, far)}


def to_networkx(graph: MultimodalGraph) -> "nx.MultiDiGraph[int]":
    """Convert a graph to NetworkX, through PyG, if it is small enough for Python objects.

    Nodes are numbered consecutively, one node type after the other in the order of ``graph.data.node_types``, with ``type``,
    ``row`` (in the embedding table) and ``degree``; edges have ``type`` and ``edge_weight`` (1 for an unweighted relation).
    """
    plain = HeteroData()
    for node_type in graph.data.node_types:
        plain[node_type].num_nodes = graph.num_nodes(node_type)
        plain[node_type].row, plain[node_type].degree = graph.rows(node_type), graph.degree(node_type)
    for edge_type in graph.data.edge_types:
        edge_index, weight = graph.edges(edge_type)
        plain[edge_type].edge_index = edge_index.as_tensor()
        plain[edge_type].edge_weight = torch.ones(edge_index.shape[1]) if weight is None else weight
    result: nx.MultiDiGraph[int] = pyg_to_networkx(plain, node_attrs=["row", "degree"], edge_attrs=["edge_weight"], to_multi=True)
    return result


def _modality(graph: MultimodalGraph, table: FeatureTable, knn: int, generator: torch.Generator) -> dict[str, Any]:
    compared = agreement(graph, table, knn, generator) if knn and table.node_type == ITEM else None
    return {"node_type": table.node_type, "dim": table.dim, "missing": _share(~table.present), "agreement": compared}


def _connections(graph: MultimodalGraph) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return masks of the nodes without an edge to another node, by type, and a summary of the connected components."""
    offsets, total = dict[str, int](), 0
    for node_type in graph.data.node_types:
        offsets[node_type] = total
        total += graph.num_nodes(node_type)
    columns = [
        graph.edges(t).edge_index.as_tensor() + torch.tensor([[offsets[t[0]]], [offsets[t[2]]]]) for t in graph.data.edge_types
    ]
    source, target = torch.cat(columns, dim=1).numpy()
    adjacency = csr_array((np.ones(source.size, dtype=np.int8), (source, target)), shape=(total, total))
    count, label = connected_components(adjacency, directed=False)
    sizes = torch.from_numpy(np.bincount(label, minlength=count))
    alone = sizes[torch.from_numpy(label).long()] == 1
    isolated = {t: alone[offsets[t] : offsets[t] + graph.num_nodes(t)] for t in graph.data.node_types}
    return isolated, {"count": int(count), "largest": float(sizes.max() / total)}


def _cointeraction(graph: MultimodalGraph, pairs: Tensor) -> float:
    """Compute the mean co-interaction cosine over item pairs ``[2, n]``."""
    item, user = graph.edges(ITEM_USER).edge_index.as_tensor().numpy()
    by_item = csr_array((np.ones(item.size), (item, user)), shape=(graph.num_nodes(ITEM), graph.num_nodes("user")))
    first, second = pairs.numpy()
    blocks = [slice(i, i + 10_000) for i in range(0, first.size, 10_000)]
    common = np.concatenate([by_item[first[block]].multiply(by_item[second[block]]).sum(axis=1) for block in blocks])
    degree = graph.degree(ITEM).double().numpy()
    return float(np.mean(common / np.sqrt(degree[first] * degree[second])))


def _summary(values: Tensor) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "median": float(values.median()),
        "mean": float(values.mean()),
        "max": float(values.max()),
    }


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
