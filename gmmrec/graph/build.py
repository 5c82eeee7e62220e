"""Construction of a graph from tables: training interactions, features and optional relations."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.config import check_literals, check_non_negative
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import TRAIN
from gmmrec.data.reviews import TrainingTexts, training_texts
from gmmrec.data.split import Split
from gmmrec.data.triples import Triples
from gmmrec.errors import UsageError
from gmmrec.graph.cache import cached_edges, default_folder
from gmmrec.graph.edges import cooccurrence_edges, normalize
from gmmrec.graph.knn import knn_edges
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.typing import (
    ALIGNED,
    ENTITY,
    ENTITY_ITEM,
    ITEM,
    ITEM_ITEM,
    ITEM_USER,
    RELATED,
    USER,
    USER_ITEM,
    USER_USER,
    EdgeType,
    NodeType,
    similar,
)


@dataclass(frozen=True)
class GraphConfig:
    """Optional relations of the graph besides the interactions. Models add relations of their own in ``prepare``."""

    knn: int = 0
    """Number of nearest items per modality connected to each item, itself included; 0 for none."""
    knn_weighting: Literal["binary", "cosine"] = "binary"
    """Weights of nearest neighbours: uniform or cosine similarity (negative values count as 0)."""
    knn_backend: Literal["exact", "faiss", "faiss_approximate"] = "exact"
    """Backend of the neighbour search; FAISS needs ``pip install gmmrec[faiss]``."""
    co_occurrence: int = 0
    """Number of items with the most users in common connected to each item; 0 for none."""
    user_co_occurrence: int = 0
    """Number of users with the most items in common connected to each user; 0 for none."""
    cache: bool = False
    """True to cache nearest neighbours across runs in ``~/.cache/gmmrec``, keyed by the content of the features."""

    def __post_init__(self) -> None:
        check_non_negative(knn=self.knn, co_occurrence=self.co_occurrence, user_co_occurrence=self.user_co_occurrence)
        check_literals(self)


def build_graph(dataset: Dataset, split: Split, config: GraphConfig = GraphConfig()) -> MultimodalGraph:
    """Build the graph of the training interactions; validation and test interactions are never read.

    All users and items of the data set are nodes, with or without interactions. A repeated pair is one edge. Edges between users
    and items have the weight ``1 / sqrt(deg_u deg_i)``; if the data set has ratings and reviews, they also carry those of the
    pair's first interaction (``rating``, ``text``), in words numbered from the training part alone
    (:class:`~gmmrec.data.reviews.TrainingTexts`). The optional relations are normalised by their row sums, as in LATTICE and
    FREEDOM.

    Training triples are edges between entities, from head to tail, each with its ``relation``; items are connected to their
    entities in both directions. These edges are unweighted.

    Args:
        dataset: Nodes and their features.
        split: Training interactions and triples.
        config: Optional relations.

    Raises:
        UsageError: The name of a modality collides with another node attribute.
    """
    data = HeteroData()
    sizes = {USER: dataset.num_users, ITEM: dataset.num_items}
    if split.triples is not None:
        sizes[ENTITY] = len(dataset.vocabularies[ENTITY])
    tables = {name: table for name, table in dataset.features.items() if table.node_type in sizes}
    for name, table in tables.items():
        if name in ("num_nodes", "degree", "n_id") or name.removesuffix("_mask") in tables.keys() - {name}:
            raise UsageError(f"modality {name!r} of {table.node_type} collides with another node attribute of that name; rename it")
    for node_type, count in sizes.items():
        data[node_type].num_nodes = count
    for name, table in tables.items():
        data[table.node_type][name] = table.values
        data[table.node_type][f"{name}_mask"] = table.mask
    texts = training_texts(dataset.reviews, split)
    _add_interactions(data, split.train, texts)
    schema = GraphSchema(
        num_nodes=sizes,
        feature_dims={name: table.dim for name, table in tables.items()},
        feature_nodes={name: table.node_type for name, table in tables.items()},
        relations=(USER_ITEM, ITEM_USER),
        num_words=len(texts.words),
        num_relations=0 if split.triples is None else split.triples.num_relations,
    )
    if split.triples is not None:
        schema = replace(schema, relations=(*schema.relations, *_add_triples(data, split.triples)))
    graph = MultimodalGraph(data, schema)
    if config.co_occurrence:
        graph = _with_cooccurrence(graph, split.train, ITEM, config.co_occurrence)
    if config.user_co_occurrence:
        graph = _with_cooccurrence(graph, split.train, USER, config.user_co_occurrence)
    if config.knn:
        for table in dataset.features.values():
            if table.node_type == ITEM:
                graph = _with_neighbors(graph, table, config)
    return graph


def _add_interactions(data: HeteroData, train: Interactions, texts: TrainingTexts) -> None:
    num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
    train = train.distinct()  # a repeated pair is one edge
    users, items = train.user, train.item
    attributes = {} if train.weight is None else {"rating": train.weight}
    text = texts.about(train)
    attributes |= {} if text is None else {"text": text}
    data[USER].degree = torch.bincount(users, minlength=num_users).float()
    data[ITEM].degree = torch.bincount(items, minlength=num_items).float()
    for edge_type, ends, size in (
        (USER_ITEM, (users, items), (num_users, num_items)),
        (ITEM_USER, (items, users), (num_items, num_users)),
    ):
        order = torch.argsort(ends[1] * size[0] + ends[0])
        edge_index = EdgeIndex(torch.stack(ends)[:, order].contiguous(), sparse_size=size, sort_order="col")
        data[edge_type].edge_index = edge_index
        data[edge_type].edge_weight = normalize(edge_index.as_tensor(), size)
        for name, values in attributes.items():
            data[edge_type][name] = values[order]


def _add_triples(data: HeteroData, triples: Triples) -> tuple[EdgeType, ...]:
    """Add training triples as edges from head to tail, the alignment of items, and the entities' degrees in these triples."""
    num_items, num_entities = data[ITEM].num_nodes, data[ENTITY].num_nodes
    train = triples.take(triples.part == TRAIN)
    data[ENTITY].degree = torch.bincount(torch.cat([train.head, train.tail]), minlength=num_entities).float()
    order = torch.argsort(train.relation, stable=True)  # edges of a pair are ordered by relation
    order = order[torch.argsort(train.tail[order] * num_entities + train.head[order], stable=True)]
    ends = torch.stack([train.head, train.tail])[:, order].contiguous()
    data[RELATED].edge_index = EdgeIndex(ends, sparse_size=(num_entities, num_entities), sort_order="col")
    data[RELATED].relation = train.relation[order]
    if triples.entity is None:
        return (RELATED,)
    item = torch.nonzero(triples.entity >= 0).flatten()
    entity = triples.entity[item]
    for kind, (source, target), sizes in (
        (ALIGNED, (item, entity), (num_items, num_entities)),
        (ENTITY_ITEM, (entity, item), (num_entities, num_items)),
    ):
        order = torch.argsort(target, stable=True)
        edge_index = EdgeIndex(torch.stack([source, target])[:, order].contiguous(), sparse_size=sizes, sort_order="col")
        data[kind].edge_index = edge_index
    return (RELATED, ALIGNED, ENTITY_ITEM)


def _with_cooccurrence(graph: MultimodalGraph, train: Interactions, node_type: NodeType, k: int) -> MultimodalGraph:
    count = graph.num_nodes(node_type)
    edge_index, weight = cooccurrence_edges(train, count, k, node_type=node_type)
    weight = normalize(edge_index, (count, count), weight, degrees="incoming")
    return graph.with_edges(ITEM_ITEM if node_type == ITEM else USER_USER, edge_index, weight)


def _with_neighbors(graph: MultimodalGraph, table: FeatureTable, config: GraphConfig) -> MultimodalGraph:
    settings = {"k": config.knn, "weighting": config.knn_weighting, "backend": config.knn_backend}
    folder: Path | None = default_folder() if config.cache else None
    edge_index, weight = cached_edges(
        folder,
        "knn",
        {"values": table.values, "mask": table.mask},
        settings,
        lambda: knn_edges(table, config.knn, weighting=config.knn_weighting, backend=config.knn_backend),
    )
    weight = normalize(edge_index, (table.num_rows, table.num_rows), weight.clamp(min=0), degrees="incoming")
    return graph.with_edges(similar(table.name), edge_index, weight)
