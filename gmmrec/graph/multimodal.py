"""MultimodalGraph, a thin frozen view of a ``HeteroData`` with the guarantees that models rely on."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from gmmrec.data.features import FeatureTable
from gmmrec.errors import DataError, UnknownIdError
from gmmrec.graph import pyg
from gmmrec.nn.relations import Bipartite, Relation, UserItem
from gmmrec.safety.types import check_fields
from gmmrec.typing import ITEM_USER, USER_ITEM, EdgeType, NodeType


class Edges(NamedTuple):
    """Edges of one relation: ``edge_index`` ``[2, E]`` (source, target), sorted by target, and ``weight`` ``[E]`` or None."""

    edge_index: EdgeIndex
    weight: Tensor | None


@dataclass(frozen=True)
class GraphSchema:
    """Sizes and names of a graph, without data: all that the constructor of a model needs.

    Attributes:
        num_nodes: Rows of the embedding table of every node type (those of the whole graph, even for a subgraph).
        feature_dims: Width of every modality.
        feature_nodes: Node type of every modality.
        relations: Edge types.
        num_words: Rows of the word table for the reviews on the edges, padding and the unknown word included; 0 without reviews.
        num_relations: Number of relations of the triples between entities; 0 without triples.
    """

    num_nodes: Mapping[NodeType, int]
    feature_dims: Mapping[str, int]
    feature_nodes: Mapping[str, NodeType]
    relations: tuple[EdgeType, ...]
    num_words: int = 0
    num_relations: int = 0

    def modalities(self, node_type: NodeType = "item") -> tuple[str, ...]:
        """Return the names of the modalities of one node type, in a fixed order."""
        return tuple(name for name, owner in self.feature_nodes.items() if owner == node_type)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the schema") -> "GraphSchema":
        """Build a schema from its JSON representation.

        Raises:
            UsageError: The values are not those of a schema; the message begins with ``where``.

        >>> values = {"num_nodes": {"user": 2}, "feature_dims": {}, "feature_nodes": {}, "relations": [["a", "b", "c"]]}
        >>> GraphSchema.from_dict(values).relations
        (('a', 'b', 'c'),)
        """
        check_fields(cls, values, where)
        missing = {"num_nodes", "feature_dims", "feature_nodes", "relations"} - set(values)
        counts = [*values.get("num_nodes", {}).values(), values.get("num_words", 0), values.get("num_relations", 0)]
        owners = values.get("feature_nodes", {})
        if missing or min(counts) < 0 or min(values["feature_dims"].values(), default=1) < 1:
            raise DataError(f"{where} has a schema without sizes, or with impossible ones; the file was changed since")
        if set(owners) != set(values["feature_dims"]) or not set(owners.values()) <= set(values["num_nodes"]):
            raise DataError(f"{where} has a schema whose modalities have no width or no nodes; the file was changed since")
        relations = tuple((source, name, target) for source, name, target in values["relations"])
        return cls(**{**values, "relations": relations})


@dataclass(frozen=True)
class MultimodalGraph:
    """Immutable heterogeneous graph with features by modality.

    ``data`` holds, for every node type, ``num_nodes``, ``degree`` (number of training interactions, ``[N]``), per modality its
    values under the modality's name and its mask under ``NAME_mask``, and in a subgraph ``n_id``; for every edge type
    ``edge_index`` (an ``EdgeIndex`` sorted by target) and, if weighted, ``edge_weight``. The interactions, in both directions, may
    have two further attributes: ``rating`` ``[E]`` and ``text``, the word ids of the reviews ``[E, T]``. Triples have one,
    ``relation`` ``[E]``.
    """

    data: HeteroData
    schema: GraphSchema

    @cached_property
    def features(self) -> Mapping[str, FeatureTable]:
        """The feature tables of this graph's nodes, by modality."""
        return {
            name: FeatureTable(name, self.data[owner][name], self.data[owner][f"{name}_mask"], owner)
            for name, owner in self.schema.feature_nodes.items()
        }

    def edges(self, edge_type: EdgeType) -> Edges:
        """Return the edges of one type.

        Raises:
            KeyError: The graph has no such relation.
        """
        if edge_type not in self.data.edge_types:
            known = ", ".join("-".join(t) for t in self.data.edge_types)
            raise UnknownIdError(f"the graph has no edges {'-'.join(edge_type)}; it has {known}")
        store = self.data[edge_type]
        return Edges(store["edge_index"], store.get("edge_weight"))

    def attribute(self, edge_type: EdgeType, name: str) -> Tensor | None:
        """Return an attribute of the edges of one type, ``rating`` ``[E]`` or ``text`` ``[E, T]``, in the order of the edges.

        Only training interactions are edges, so held-out ratings and reviews are not included. A missing ``rating`` is 0, a missing
        ``text`` all padding (0); None if the data set has no such attribute.
        """
        values: Tensor | None = self.data[edge_type].get(name)
        return values

    @property
    def bipartite(self) -> Bipartite:
        """Weighted training interactions in both directions and the degrees, as user-item layers take them."""
        to_user, to_item = (Relation(*self.edges(kind)) for kind in (ITEM_USER, USER_ITEM))
        return Bipartite(to_user, to_item, UserItem(self.degree("user"), self.degree("item")))

    def num_nodes(self, node_type: NodeType) -> int:
        """Return the number of nodes in this (sub)graph."""
        return int(self.data[node_type].num_nodes)

    def degree(self, node_type: NodeType) -> Tensor:
        """Return the number of training interactions ``[N]`` (float32) in the whole graph, even for a subgraph."""
        degree: Tensor = self.data[node_type]["degree"]
        return degree

    def rows(self, node_type: NodeType) -> Tensor:
        """Return the row of every node in its embedding table ``[N]``; -1 for a node without one (a user not seen in training)."""
        store = self.data[node_type]
        n_id: Tensor = store["n_id"] if "n_id" in store else torch.arange(self.num_nodes(node_type), device=store["degree"].device)
        return n_id

    def gather(self, node_type: NodeType, table: Tensor) -> Tensor:
        """Gather rows of a table ``[rows, ...]`` for the nodes of this graph ``[N, ...]``; zeros for nodes without a row.

        On the whole graph this returns the table itself, without a copy.
        """
        if "n_id" not in self.data[node_type]:
            return table
        rows = self.rows(node_type)
        if bool((rows >= 0).all()):
            return table.index_select(0, rows)
        present = (rows >= 0).view(-1, *[1] * (table.dim() - 1))
        return torch.where(
            present, table.index_select(0, rows.clamp(min=0)), torch.zeros((), dtype=table.dtype, device=table.device)
        )

    def with_edges(self, edge_type: EdgeType, edge_index: Tensor, edge_weight: Tensor | None = None) -> "MultimodalGraph":
        """Return a new graph with one relation added or replaced; ``edge_index`` ``[2, E]`` may be in any order.

        Attributes of replaced edges, such as ratings, are dropped unless the ``EdgeIndex`` is the same object.
        """
        source, _, target = edge_type
        sizes = (self.num_nodes(source), self.num_nodes(target))
        edges = sort_edges(edge_index, edge_weight, sizes)
        data = copy.copy(self.data)
        store = data[edge_type]
        replaced = store.get("edge_index") is not edges.edge_index
        for name in [name for name in store if replaced or name == "edge_weight"]:
            del store[name]
        store["edge_index"] = edges.edge_index
        if edges.weight is not None:
            store["edge_weight"] = edges.weight
        relations = tuple(dict.fromkeys((*self.schema.relations, edge_type)))
        graph = MultimodalGraph(data, replace(self.schema, relations=relations))
        if "features" in self.__dict__:  # reuse the tables, so that they are checked only once
            graph.__dict__["features"] = self.features
        return graph

    def to_pyg(self) -> HeteroData:
        """Convert to plain PyG data, for PyG's own transforms, loaders, ``to_hetero`` and explainers.

        Edges are ordinary ``edge_index`` tensors, sorted by target. Every node type has ``x``, the input features ``[N, D]`` (its
        modalities concatenated, tokens averaged, zeros for missing ones; a single 1 for nodes without features), and
        ``num_embeddings``, the rows that an embedding table needs. Modalities, masks, ``degree`` and edge attributes keep their
        names; a modality whose name PyG reserves, such as ``y``, is stored as ``feature_y``. Tensors are shared with this graph, so
        clone one before writing into it.
        """
        counts = {"num_words": self.schema.num_words, "num_relations": self.schema.num_relations}
        return pyg.export(self.data, self.features.values(), self.schema.num_nodes, counts)

    @classmethod
    def from_pyg(cls, data: HeteroData) -> "MultimodalGraph":
        """Convert the output of :meth:`to_pyg` back, even after PyG's transforms or as a mini-batch of its loaders.

        A float attribute ``[N, D]`` or ``[N, T, D]`` added in between becomes a modality, present everywhere unless masked by
        ``NAME_mask``. Missing degrees, reversed edges and weights of interactions are computed as by ``build_graph``: delete
        ``degree`` and ``edge_weight`` after a transform that removes interactions.

        Raises:
            UsageError: Users, items or their interactions are missing, or an edge has an unknown node.
        """
        parsed = pyg.parse(data)
        return cls(parsed.data, GraphSchema(*parsed[1:]))

    def to(self, device: torch.device | str) -> "MultimodalGraph":
        """Return a copy on another device."""
        return replace(self, data=copy.copy(self.data).to(device))


def sort_edges(edge_index: Tensor, edge_weight: Tensor | None, sizes: tuple[int, int]) -> Edges:
    """Sort edges and their weights by target, then by source.

    >>> edges = sort_edges(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0.1, 0.2]), (2, 2))
    >>> edges.edge_index.tolist(), edges.weight.tolist()
    ([[1, 0], [0, 1]], [0.20000000298023224, 0.10000000149011612])
    """
    if isinstance(edge_index, EdgeIndex) and edge_index.is_sorted_by_col and edge_index.sparse_size() == sizes:
        return Edges(edge_index, edge_weight)
    plain = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
    order = torch.argsort(plain[1] * sizes[0] + plain[0], stable=True)
    sorted_index = EdgeIndex(plain[:, order].contiguous(), sparse_size=sizes, sort_order="col")
    return Edges(sorted_index, None if edge_weight is None else edge_weight[order])
