"""What a person asks of a graph before training on it: sizes, degrees, gaps, and whether features say what people do."""

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
    """Facts about a graph, as plain numbers that JSON can hold.

    Args:
        graph: A whole graph, on the CPU.
        generator: Draws the random pairs that neighbours are compared with.
        knn: Neighbours an item in the comparison of features with interactions; 0 leaves the comparison out.
        dim: Size of embeddings in the memory forecast.
        num_layers: Propagation steps in the memory forecast.
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
    """Bytes that training a model with one embedding table a node type on the whole graph takes, by purpose.

    Parameters, their gradients and Adam's two moments are exact for LightGCN. Activations are the output of every layer for every
    node, as kept for the backward pass, and the gradient that flows back. Models that project features or attend take more.
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
    """How much more alike in interactions items are that are alike in features.

    Compares the mean cosine of co-interaction (common users over the root of the product of both items' users) of every item's
    ``k`` nearest neighbours by one modality with that of random pairs. Items without interactions take no part; of more than
    100 000 pairs a sample is taken.

    Returns:
        ``neighbors`` and ``random``, or None where fewer than two items have both the modality and interactions.
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
    """The graph for NetworkX, through PyG; for graphs small enough to hold as Python objects.

    Nodes are numbered through, one node type behind the other in the order of ``graph.data.node_types``, with ``type``, ``row``
    (in the embedding table) and ``degree``; edges have ``type`` and ``edge_weight`` (1 where a relation is not weighted).
    """
    plain = HeteroData()
    for node_type in graph.data.node_types:
        plain[node_type].num_nodes = graph.num_nodes(node_type)
        plain[node_type].row, plain[node_type].degree = graph.rows(node_type), graph.degree(node_type)
    for edge_type in graph.data.edge_types:
        edge_index, weight = graph.edges(edge_type)
        plain[edge_type].edge_index = edge_index.as_tensor()
        plain[edge_type].edge_weight = torch.ones(edge_index.shape[1]) if weight is None else weight
    found: nx.MultiDiGraph[int] = pyg_to_networkx(plain, node_attrs=["row", "degree"], edge_attrs=["edge_weight"], to_multi=True)
    return found


def _modality(graph: MultimodalGraph, table: FeatureTable, knn: int, generator: torch.Generator) -> dict[str, Any]:
    compared = agreement(graph, table, knn, generator) if knn and table.node_type == ITEM else None
    return {"node_type": table.node_type, "dim": table.dim, "missing": _share(~table.present), "agreement": compared}


def _connections(graph: MultimodalGraph) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Which nodes have no edge to another node, by type; and how the graph falls into parts."""
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
    """Mean cosine of the users of both items over pairs ``[2, n]``."""
    item, user = graph.edges(ITEM_USER).edge_index.as_tensor().numpy()
    touched = csr_array((np.ones(item.size), (item, user)), shape=(graph.num_nodes(ITEM), graph.num_nodes("user")))
    first, second = pairs.numpy()
    blocks = [slice(i, i + 10_000) for i in range(0, first.size, 10_000)]
    common = np.concatenate([touched[first[block]].multiply(touched[second[block]]).sum(axis=1) for block in blocks])
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
