"""Conversion between graphs and plain PyG data, for PyG's own transforms, loaders, ``to_hetero`` and explainers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError, quote_names
from gmmrec.graph.edges import normalize
from gmmrec.typing import ENTITY, ITEM, ITEM_USER, RELATED, USER, USER_ITEM, EdgeType, NodeType

PREFIX = "feature_"
"""Prefix of the attribute of a modality whose name is reserved in a node store."""

RESERVED = frozenset(
    {
        *("x", "y", "z", "pos", "norm", "face", "time", "batch", "ptr", "index", "adj", "adj_t", "node_type", "edge_index"),
        *("edge_attr", "edge_weight", "edge_type", "edge_label", "edge_label_index", "n_id", "e_id", "input_id", "batch_size"),
        *("num_nodes", "num_edges", "num_sampled_nodes", "num_sampled_edges", "num_embeddings", "degree", "seed_time"),
        *("src_index", "dst_pos_index", "dst_neg_index", "train_mask", "val_mask", "test_mask"),
    }
)
"""Attributes of a node store that PyG, its loaders or transforms, or :func:`export` write or read."""


class Parsed(NamedTuple):
    """Data of a graph, followed by the fields of its schema in order."""

    data: HeteroData
    num_nodes: dict[NodeType, int]
    feature_dims: dict[str, int]
    feature_nodes: dict[str, NodeType]
    relations: tuple[EdgeType, ...]
    num_words: int
    num_relations: int


def attribute_name(modality: str) -> str:
    """Return the attribute of a node store that holds a modality; its mask has the same name with ``_mask`` appended.

    >>> attribute_name("image"), attribute_name("x")
    ('image', 'feature_x')
    """
    is_reserved = modality in RESERVED or modality.startswith((PREFIX, "_"))
    return f"{PREFIX}{modality}" if is_reserved else modality


def plain_type(edge_type: EdgeType) -> EdgeType:
    """Encode an edge type in letters, digits and single underscores, as ``to_hetero`` needs; :func:`own_type` decodes it.

    >>> plain_type(("item", "similar_words/tags", "item"))
    ('item', 'similar_wordsZ2fZtags', 'item')
    """
    source, relation, target = edge_type
    return source, re.sub(r"[^a-zA-Y0-9_]|_(?=_)", lambda match: f"Z{ord(match[0]):x}Z", relation), target


def own_type(edge_type: EdgeType) -> EdgeType:
    """Decode an edge type encoded by :func:`plain_type`.

    >>> own_type(("item", "similar_wordsZ2fZtags", "item"))
    ('item', 'similar_words/tags', 'item')
    """
    source, relation, target = edge_type
    return source, re.sub(r"Z([0-9a-f]+)Z", lambda match: chr(int(match[1], 16)), relation), target


def export(
    data: HeteroData, features: Iterable[FeatureTable], num_embeddings: Mapping[NodeType, int], counts: Mapping[str, int]
) -> HeteroData:
    """Export the tensors of a graph to plain PyG data; only the ``x`` of several modalities is a copy.

    Args:
        data: Data of the graph.
        features: Feature tables of its nodes.
        num_embeddings: Rows of the embedding table of every node type.
        counts: Numbers of the whole graph, such as ``num_words``; zeros are omitted.
    """
    tables, plain = list(features), HeteroData()
    for node_type in data.node_types:
        store, modalities = data[node_type], [table for table in tables if table.node_type == node_type]
        plain[node_type].x = _inputs(modalities, store["degree"])
        plain[node_type].num_nodes, plain[node_type].num_embeddings = int(store.num_nodes), num_embeddings[node_type]
        for name in ("degree", "n_id"):
            if name in store:
                plain[node_type][name] = store[name]
        for table in modalities:
            name = attribute_name(table.name)
            plain[node_type][name], plain[node_type][f"{name}_mask"] = table.values, table.mask
    for edge_type in data.edge_types:
        store = plain[plain_type(edge_type)]
        for name, value in data[edge_type].items():
            store[name] = value.as_tensor().contiguous() if isinstance(value, EdgeIndex) else value
    for name, count in counts.items():
        if count:
            plain[name] = count
    return plain


def parse(data: HeteroData) -> Parsed:
    """Parse the output of :func:`export`, even after PyG's transforms and loaders; edges may be unsorted.

    Raises:
        UsageError: Users, items or their interactions are missing, or an edge has an unknown node.
    """
    _check_types(data)
    plain = HeteroData()
    num_nodes, dims, owners = dict[NodeType, int](), dict[str, int](), dict[str, NodeType]()
    for node_type in data.node_types:
        num_nodes[node_type] = _copy_nodes(data, plain, node_type)
        for name, (values, mask) in _modalities(data, node_type).items():
            if name in owners:
                raise UsageError(f"{node_type!r} and {owners[name]!r} both have a modality {name!r}; rename one of the attributes")
            plain[node_type][name], plain[node_type][f"{name}_mask"] = values, mask
            dims[name], owners[name] = values.shape[-1], node_type
    for edge_type in data.edge_types:
        is_exported = "num_embeddings" in data[edge_type[0]]
        _copy_edges(data[edge_type], plain, own_type(edge_type) if is_exported else edge_type)
    if ITEM_USER not in plain.edge_types:
        _copy_edges(_reversed(plain[USER_ITEM]), plain, ITEM_USER)
    for edge_type in (USER_ITEM, ITEM_USER):
        if "edge_weight" not in plain[edge_type]:
            plain[edge_type].edge_weight = normalize(plain[edge_type].edge_index.as_tensor(), _sizes(plain, edge_type))
    for node_type in plain.node_types:
        if "degree" not in plain[node_type]:
            plain[node_type].degree = _degree(plain, node_type)
    largest = {"num_words": plain[USER_ITEM].get("text"), "num_relations": None}
    if RELATED in plain.edge_types:
        largest["num_relations"] = plain[RELATED].get("relation")
    counts = {name: _count(getattr(data, name, None), ids) for name, ids in largest.items()}
    return Parsed(plain, num_nodes, dims, owners, tuple(plain.edge_types), **counts)


def _inputs(tables: list[FeatureTable], degree: Tensor) -> Tensor:
    """Build the matrix of input features: modalities concatenated, tokens averaged; a single 1 for nodes without features."""
    if not tables:
        return torch.ones(len(degree), 1, device=degree.device)
    pooled = [table.pooled for table in tables]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)


def _check_types(data: HeteroData) -> None:
    missing = [node_type for node_type in (USER, ITEM) if node_type not in data.node_types]
    if missing or USER_ITEM not in data.edge_types:
        found = quote_names(data.node_types) or "none" if missing else quote_names(data.edge_types) or "none"
        what = f"node type {missing[0]!r}" if missing else f"edges {USER_ITEM}"
        raise UsageError(
            f"the data has no {what} (it has {found}), but a graph needs users and items as exported by MultimodalGraph.to_pyg(); "
            "read other data with Dataset.from_pyg(data, user=..., item=...) and build_graph"
        )


def _copy_nodes(data: HeteroData, plain: HeteroData, node_type: NodeType) -> int:
    """Copy everything except the features; return the number of nodes in the whole graph."""
    store = data[node_type]
    if store.num_nodes is None:
        raise UsageError(f"the number of {node_type} nodes is unknown; set data[{node_type!r}].num_nodes")
    count = plain[node_type].num_nodes = int(store.num_nodes)
    for name in ("degree", "n_id"):
        if name in store:
            plain[node_type][name] = store[name]
    if "num_embeddings" in store:
        whole = int(store["num_embeddings"])
        if "n_id" in store and whole == count and torch.equal(store["n_id"].cpu(), torch.arange(count)):
            del plain[node_type]["n_id"]  # a loader that took every node, in order
        return whole
    if "n_id" in store:
        raise UsageError(
            f"the data is a subgraph of unknown size; set data[{node_type!r}].num_embeddings to the number of {node_type} nodes "
            "in the whole graph"
        )
    return count


def _modalities(data: HeteroData, node_type: NodeType) -> dict[str, tuple[Tensor, Tensor]]:
    """Return values and mask of every modality of a node type; ``x`` is a modality only if :func:`export` did not write it."""
    store = data[node_type]
    is_exported = "num_embeddings" in store
    modalities = {}
    for name, values in store.items():
        is_feature = isinstance(values, Tensor) and values.is_floating_point() and values.dim() in (2, 3)
        if not is_feature or len(values) != store.num_nodes or (is_exported and name == "x"):
            continue
        mask = store.get(f"{name}_mask")
        mask = torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device) if mask is None else mask
        modality = name.removeprefix(PREFIX) if is_exported else own_name(name, node_type)
        table = FeatureTable(modality, values, mask, node_type)  # checks shapes and values
        modalities[modality] = table.values, table.mask
    return modalities


def own_name(attribute: str, node_type: NodeType, item: NodeType = ITEM) -> str:
    """Return the modality name of an attribute of foreign data: unchanged for items, prefixed with the node type for others.

    >>> own_name("x", "item"), own_name("x", "user"), own_name("user_text", "user")
    ('x', 'user_x', 'user_text')
    """
    return attribute if node_type == item or attribute.startswith(f"{node_type}_") else f"{node_type}_{attribute}"


def _copy_edges(store: Mapping[str, Any], plain: HeteroData, edge_type: EdgeType) -> None:
    """Copy edges and their attributes, sorted by target and then by source."""
    name = "-".join(edge_type)
    if "edge_index" not in store:
        raise UsageError(f"the edges {name} have no edge_index; pass the data as it was before ToSparseTensor")
    ends = store["edge_index"].as_tensor() if isinstance(store["edge_index"], EdgeIndex) else store["edge_index"]
    sizes = _sizes(plain, edge_type)
    for end, size in zip(ends, sizes, strict=True):
        if end.numel() and not 0 <= int(end.min()) <= int(end.max()) < size:
            raise UsageError(f"the edges {name} contain node {int(end.max())}, but there are {size} nodes; correct num_nodes")
    order = torch.argsort(ends[1] * sizes[0] + ends[0], stable=True)
    plain[edge_type].edge_index = EdgeIndex(ends[:, order].contiguous(), sparse_size=sizes, sort_order="col")
    for key, value in store.items():
        is_attribute = isinstance(value, Tensor) and value.dim() and len(value) == ends.shape[1]
        if is_attribute and key != "edge_index" and not key.startswith("edge_label"):  # labels belong to other edges
            plain[edge_type][key] = value[order]


def _reversed(store: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reversed edges."""
    return {**store, "edge_index": store["edge_index"].as_tensor().flip(0)}


def _degree(plain: HeteroData, node_type: NodeType) -> Tensor:
    """Count the interactions of a user or item, or the triples of an entity; other nodes have degree 0."""
    ends = plain[USER_ITEM].edge_index.as_tensor()
    nodes = {USER: ends[0], ITEM: ends[1]}
    if RELATED in plain.edge_types:
        nodes[ENTITY] = plain[RELATED].edge_index.as_tensor().flatten()
    return torch.bincount(nodes.get(node_type, ends[0][:0]), minlength=plain[node_type].num_nodes).float()


def _sizes(data: HeteroData, edge_type: EdgeType) -> tuple[int, int]:
    return int(data[edge_type[0]].num_nodes), int(data[edge_type[2]].num_nodes)


def _count(given: int | None, ids: Tensor | None) -> int:
    """Return the number that :func:`export` wrote, or else the largest id plus one."""
    if given is not None:
        return int(given)
    return int(ids.max()) + 1 if ids is not None and ids.numel() else 0
