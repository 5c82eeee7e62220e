"""Plain PyG data out of a graph and back: what PyG's own transforms, loaders, ``to_hetero`` and explainers take."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.data.errors import listed
from gmmrec.data.features import FeatureTable
from gmmrec.graph.edges import normalize
from gmmrec.typing import ENTITY, ITEM, ITEM_USER, RELATED, USER, USER_ITEM, EdgeType, NodeType

PREFIX = "feature_"
"""Begins the attribute of a modality whose name means something else in a node store."""

RESERVED = frozenset(
    {
        *("x", "y", "z", "pos", "norm", "face", "time", "batch", "ptr", "index", "adj", "adj_t", "node_type", "edge_index"),
        *("edge_attr", "edge_weight", "edge_type", "edge_label", "edge_label_index", "n_id", "e_id", "input_id", "batch_size"),
        *("num_nodes", "num_edges", "num_sampled_nodes", "num_sampled_edges", "num_embeddings", "degree", "seed_time"),
        *("src_index", "dst_pos_index", "dst_neg_index", "train_mask", "val_mask", "test_mask"),
    }
)
"""Attributes of a node store that PyG, its loaders and its transforms, or :func:`export` itself, write or read."""


class Parsed(NamedTuple):
    """A graph's data, and the fields of its schema, in their order."""

    data: HeteroData
    num_nodes: dict[NodeType, int]
    feature_dims: dict[str, int]
    feature_nodes: dict[str, NodeType]
    relations: tuple[EdgeType, ...]
    num_words: int
    num_relations: int


def attribute_name(modality: str) -> str:
    """Attribute of a node store that holds a modality; its mask stands under the same name with ``_mask``.

    >>> attribute_name("image"), attribute_name("x")
    ('image', 'feature_x')
    """
    is_taken = modality in RESERVED or modality.startswith((PREFIX, "_"))
    return f"{PREFIX}{modality}" if is_taken else modality


def plain_type(edge_type: EdgeType) -> EdgeType:
    """An edge type in letters, digits and single underscores, which ``to_hetero`` needs; :func:`own_type` undoes it.

    >>> plain_type(("item", "similar_words/tags", "item"))
    ('item', 'similar_wordsZ2fZtags', 'item')
    """
    source, relation, target = edge_type
    return source, re.sub(r"[^a-zA-Y0-9_]|_(?=_)", lambda found: f"Z{ord(found[0]):x}Z", relation), target


def own_type(edge_type: EdgeType) -> EdgeType:
    """The edge type that became this one in :func:`plain_type`.

    >>> own_type(("item", "similar_wordsZ2fZtags", "item"))
    ('item', 'similar_words/tags', 'item')
    """
    source, relation, target = edge_type
    return source, re.sub(r"Z([0-9a-f]+)Z", lambda found: chr(int(found[1], 16)), relation), target


def export(
    data: HeteroData, features: Iterable[FeatureTable], num_embeddings: Mapping[NodeType, int], counts: Mapping[str, int]
) -> HeteroData:
    """Plain PyG data with the tensors of a graph; nothing but ``x`` of several modalities is copied.

    Args:
        data: What a graph holds.
        features: The feature tables of its nodes.
        num_embeddings: Rows of the embedding table of every node type.
        counts: Numbers that stand for the whole graph, such as ``num_words``; zeros are left out.
    """
    tables, plain = list(features), HeteroData()
    for node_type in data.node_types:
        store, own = data[node_type], [table for table in tables if table.node_type == node_type]
        plain[node_type].x = _inputs(own, store["degree"])
        plain[node_type].num_nodes, plain[node_type].num_embeddings = int(store.num_nodes), num_embeddings[node_type]
        for name in ("degree", "n_id"):
            if name in store:
                plain[node_type][name] = store[name]
        for table in own:
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
    """What :func:`export` made, also after PyG's transforms and loaders; edges may have lost their order.

    Raises:
        ValueError: Users, items or their interactions are missing, or an edge names a node that there is not.
    """
    _check_types(data)
    plain = HeteroData()
    num_nodes, dims, owners = dict[NodeType, int](), dict[str, int](), dict[str, NodeType]()
    for node_type in data.node_types:
        num_nodes[node_type] = _copy_nodes(data, plain, node_type)
        for name, (values, mask) in _modalities(data, node_type).items():
            if name in owners:
                raise ValueError(f"{node_type!r} and {owners[name]!r} both have a modality {name!r}; rename one of the attributes")
            plain[node_type][name], plain[node_type][f"{name}_mask"] = values, mask
            dims[name], owners[name] = values.shape[-1], node_type
    for edge_type in data.edge_types:
        is_ours = "num_embeddings" in data[edge_type[0]]
        _copy_edges(data[edge_type], plain, own_type(edge_type) if is_ours else edge_type)
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
    """One matrix of input features: modalities side by side, tokens averaged; a single 1 for nodes without any."""
    if not tables:
        return torch.ones(len(degree), 1, device=degree.device)
    pooled = [table.pooled for table in tables]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)


def _check_types(data: HeteroData) -> None:
    missing = [node_type for node_type in (USER, ITEM) if node_type not in data.node_types]
    if missing or USER_ITEM not in data.edge_types:
        found = listed(data.node_types) or "none" if missing else listed(data.edge_types) or "none"
        what = f"node type {missing[0]!r}" if missing else f"edges {USER_ITEM}"
        raise ValueError(
            f"the data has no {what} (it has {found}), but a graph joins users and items as MultimodalGraph.to_pyg() does; "
            "read other data with Dataset.from_pyg(data, user=..., item=...) and build_graph"
        )


def _copy_nodes(data: HeteroData, plain: HeteroData, node_type: NodeType) -> int:
    """Copies all but the features; returns the number of nodes in the whole graph."""
    store = data[node_type]
    if store.num_nodes is None:
        raise ValueError(f"nothing tells how many {node_type} nodes there are; set data[{node_type!r}].num_nodes")
    count = plain[node_type].num_nodes = int(store.num_nodes)
    for name in ("degree", "n_id"):
        if name in store:
            plain[node_type][name] = store[name]
    if "num_embeddings" in store:
        whole = int(store["num_embeddings"])
        if "n_id" in store and whole == count and torch.equal(store["n_id"].cpu(), torch.arange(count)):
            del plain[node_type]["n_id"]  # a loader that took every node, in its place
        return whole
    if "n_id" in store:
        raise ValueError(
            f"the data is a part of a graph whose size nothing tells; set data[{node_type!r}].num_embeddings to the number of "
            f"{node_type} nodes in the whole"
        )
    return count


def _modalities(data: HeteroData, node_type: NodeType) -> dict[str, tuple[Tensor, Tensor]]:
    """Values and mask of every modality of a node type.

    ``x`` is one only where :func:`export` did not write it.
    """
    store = data[node_type]
    is_ours = "num_embeddings" in store
    found = {}
    for name, values in store.items():
        is_feature = isinstance(values, Tensor) and values.is_floating_point() and values.dim() in (2, 3)
        if not is_feature or len(values) != store.num_nodes or (is_ours and name == "x"):
            continue
        mask = store.get(f"{name}_mask")
        mask = torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device) if mask is None else mask
        own = name.removeprefix(PREFIX) if is_ours else own_name(name, node_type)
        table = FeatureTable(own, values, mask, node_type)  # says what is wrong with shapes and values
        found[own] = table.values, table.mask
    return found


def own_name(attribute: str, node_type: NodeType, item: NodeType = ITEM) -> str:
    """Name of the modality in an attribute of data that was not made here: items' as it is, others' with their node type.

    >>> own_name("x", "item"), own_name("x", "user"), own_name("user_text", "user")
    ('x', 'user_x', 'user_text')
    """
    return attribute if node_type == item or attribute.startswith(f"{node_type}_") else f"{node_type}_{attribute}"


def _copy_edges(store: Mapping[str, Any], plain: HeteroData, edge_type: EdgeType) -> None:
    """Copies edges and what is known of each, sorted by target and then by source."""
    name = "-".join(edge_type)
    if "edge_index" not in store:
        raise ValueError(f"the edges {name} have no edge_index; give the data as it was before ToSparseTensor")
    ends = store["edge_index"].as_tensor() if isinstance(store["edge_index"], EdgeIndex) else store["edge_index"]
    sizes = _sizes(plain, edge_type)
    for end, size in zip(ends, sizes, strict=True):
        if end.numel() and not 0 <= int(end.min()) <= int(end.max()) < size:
            raise ValueError(f"the edges {name} join node {int(end.max())}, but there are {size} nodes; set num_nodes anew")
    order = torch.argsort(ends[1] * sizes[0] + ends[0], stable=True)
    plain[edge_type].edge_index = EdgeIndex(ends[:, order].contiguous(), sparse_size=sizes, sort_order="col")
    for key, value in store.items():
        is_known = isinstance(value, Tensor) and value.dim() and len(value) == ends.shape[1]
        if is_known and key != "edge_index" and not key.startswith("edge_label"):  # labels belong to edges of their own
            plain[edge_type][key] = value[order]


def _reversed(store: Mapping[str, Any]) -> dict[str, Any]:
    """The same edges the other way round."""
    return {**store, "edge_index": store["edge_index"].as_tensor().flip(0)}


def _degree(plain: HeteroData, node_type: NodeType) -> Tensor:
    """Interactions of a user or item, facts of an entity, counted; nothing is counted for other nodes."""
    ends = plain[USER_ITEM].edge_index.as_tensor()
    counted = {USER: ends[0], ITEM: ends[1]}
    if RELATED in plain.edge_types:
        counted[ENTITY] = plain[RELATED].edge_index.as_tensor().flatten()
    return torch.bincount(counted.get(node_type, ends[0][:0]), minlength=plain[node_type].num_nodes).float()


def _sizes(data: HeteroData, edge_type: EdgeType) -> tuple[int, int]:
    return int(data[edge_type[0]].num_nodes), int(data[edge_type[2]].num_nodes)


def _count(given: int | None, ids: Tensor | None) -> int:
    """A number that :func:`export` wrote, or one more than the largest id."""
    if given is not None:
        return int(given)
    return int(ids.max()) + 1 if ids is not None and ids.numel() else 0
