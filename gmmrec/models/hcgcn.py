"""HCGCN: Learning Hybrid Behavior Patterns for Multimedia Recommendation; reconstruction, version 1.

Z. Mu, Y. Zhuang, J. Tan, J. Xiao, S. Tang. ACM MM 2022. https://doi.org/10.1145/3503161.3548119
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Backend, Weighting
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.clustering import PrototypeAssignment, balance_loss, cut_loss, sharpening_loss
from gmmrec.nn.conv.cluster import cluster_weights
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.hcgcn import HCGCNEncoder
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, cosine_distance, embedding_norm
from gmmrec.nn.masked import masked_softmax
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import Relation, UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import EdgeType

CONTENT: EdgeType = ("item", "content_knn", "item")
"""Item-item graph: edges to every item from its neighbours by features."""


@dataclass(frozen=True)
class HCGCNConfig:
    """Settings of HCGCN; the paper's values are unknown to us, the defaults are reconstructed."""

    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of propagation layers on the user-item graph; all but the first stay inside clusters."""
    num_clusters: int = 8
    """Number of joint clusters of users and items; 1 for none, as in LightGCN."""
    item_layers: int = 1
    """Number of propagation layers on the item-item graph."""
    item_clusters: int = 8
    """Number of content clusters, within which items are smoothed; 1 for none."""
    temperature: float = 0.5
    """Temperature of both assignments."""
    hard: bool = False
    """Assign every node to its best cluster only, with the gradients of the soft assignment."""
    knn: int = 10
    """Number of neighbours per item and modality, the item itself included."""
    knn_weighting: Weighting = "cosine"
    """Neighbour weights: cosine similarities, as in LATTICE, or uniform."""
    knn_backend: Backend = "exact"
    """Neighbour search; ``"faiss_approximate"`` for millions of items."""
    modality_weights: dict[str, float] | None = None
    """Weight of every modality in the item graph, by name, normalised to sum to 1. None: uniform weights."""
    clustering: Literal["cut", "sharpen"] = "cut"
    """Clustering objective: few edges between clusters of equal size, or confident assignments (DEC)."""
    cluster_weight: float = 0.1
    """Weight of the clustering loss on the user-item graph."""
    item_cluster_weight: float = 0.1
    """Weight of the clustering loss on the item-item graph."""
    modal_weight: float = 0.01
    """Weight of the term that pulls content towards behaviour, and attention towards modalities consistent with it."""
    l2: float = 1e-4
    """Weight of the L2 term on the layer-0 embeddings of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, num_clusters=self.num_clusters, item_clusters=self.item_clusters, knn=self.knn)
        check_positive(temperature=self.temperature)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, l2=self.l2, init_std=self.init_std)
        check_non_negative(cluster_weight=self.cluster_weight, item_cluster_weight=self.item_cluster_weight)
        check_non_negative(modal_weight=self.modal_weight)
        check_literals(self)


class Content(NamedTuple):
    """Content representations of the items.

    Attributes:
        tokens: Projected features ``[I, M, D]``.
        weights: Modality importances ``[I, M]``; rows sum to 1, or to 0 for an item without features.
        fused: Weighted sum of the tokens ``[I, D]``.
    """

    tokens: Tensor
    weights: Tensor
    fused: Tensor


class Encoding(NamedTuple):
    """Results of one forward pass: final vectors, layer-0 embeddings, clusters and content."""

    nodes: UserItem
    ids: UserItem
    clusters: UserItem
    item_clusters: Tensor
    content: Content


class HCGCN(Recommender[UserQuery, HCGCNConfig], FoldsInUsers):
    """Graph convolution inside clusters: joint clusters of users and items by behaviour, and clusters of items by content.

    In every pass, users and items are assigned to shared prototypes, and items by their fused features to others; the first hop
    on the user-item graph uses all edges, further hops weight edges by the cluster overlap of their ends. Item vectors smoothed
    on a nearest-neighbour graph, both inside content clusters and on the whole graph, are added at unit length.

    RECONSTRUCTION, version 1: neither the full text nor code was available to us. The abstract describes convolutions inside
    user-item and item-item clusters, clustering losses, and a constraint that adjusts the importance of modalities; all equations,
    defaults and the protocol are ours, after LATTICE, IMP-GCN and bipartite co-clustering. An item that lacks a modality is fused
    from the others; without any, it has no content, no neighbours, and uniform content cluster weights.
    """

    def __init__(self, schema: GraphSchema, config: HCGCNConfig = HCGCNConfig()) -> None:
        super().__init__(schema, config)
        names = schema.modalities("item")
        self.shares = modality_shares(names, config.modality_weights or dict.fromkeys(names, 1.0))
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        project = [nn.Linear(schema.feature_dims[name], config.dim) for name in names]
        for layer in project:
            nn.init.zeros_(layer.bias)  # zero features get uniform attention at the start
        self.project = nn.ModuleList(project)
        self.attend = nn.Sequential(nn.Linear(config.dim, config.dim), nn.Tanh(), nn.Linear(config.dim, 1, bias=False))
        self.encoder = HCGCNEncoder(
            config.dim,
            num_clusters=config.num_clusters,
            num_layers=config.num_layers,
            temperature=config.temperature,
            hard=config.hard,
        )
        self.assign = PrototypeAssignment(config.dim, config.item_clusters, temperature=config.temperature, hard=config.hard)
        self.conv = LightConv()

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Build the item-item graph, a weighted sum of one normalised k-nearest-neighbour graph per modality."""
        c = self.config
        edges = item_graph(graph, self.shares, c.knn, weighting=c.knn_weighting, backend=c.knn_backend, alone="nothing")
        return graph.with_edges(CONTENT, *edges)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Run both kinds of convolution and sum them for the items."""
        users, items = self._encode(graph).nodes
        return Encoded({"user": users, "item": items})

    def _encode(self, graph: MultimodalGraph) -> Encoding:
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        content = self.content(graph)
        clusters, item_clusters = self.encoder.assignment(ids), self.assign(content.fused)
        users, items = self.encoder(ids, graph.bipartite, clusters)
        smoothed = self._smooth(ids.item, Relation(*graph.edges(CONTENT)), item_clusters)
        return Encoding(UserItem(users, items + unit_rows(smoothed)), ids, clusters, item_clusters, content)

    def content(self, graph: MultimodalGraph) -> Content:
        """Project the features and fuse the present modalities by attention."""
        tables = [graph.features[name] for name in self.schema.modalities("item")]
        tokens = torch.stack([project(t.pooled) for project, t in zip(self.project, tables, strict=True)], dim=1)  # [I, M, D]
        present = torch.stack([t.present for t in tables], dim=1)  # [I, M]
        weights = masked_softmax(self.attend(tokens).squeeze(-1), present)
        return Content(tokens, weights, (weights.unsqueeze(1) @ tokens).squeeze(1))

    def _smooth(self, items: Tensor, edges: Relation, clusters: Tensor) -> Tensor:
        """Average the convolutions inside content clusters and on the whole item graph, as one product with the mean weight."""
        if self.config.item_layers == 0:
            return items
        assert edges.weight is not None
        weight = (cluster_weights(edges, clusters) + edges.weight) / 2
        for _ in range(self.config.item_layers):
            items = self.conv(items, edges.edge_index, weight)
        return items

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return inner products."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return BPR, the clustering losses of both graphs, the modality constraint and the L2 term."""
        c, e = self.config, self._encode(graph)
        scores = self.score(Encoded({"user": e.nodes.user, "item": e.nodes.item}), batch.query, batch.candidates)  # [B, 1 + K]
        norm = embedding_norm(F.embedding(batch.query.user, e.ids.user), F.embedding(batch.candidates, e.ids.item))
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:]), "l2": c.l2 * norm}
        if c.cluster_weight > 0:
            edges = graph.bipartite
            both_ways = (edges.to_user, e.clusters.item, e.clusters.user), (edges.to_item, e.clusters.user, e.clusters.item)
            terms["cluster"] = c.cluster_weight * self._clustering(torch.cat(e.clusters), *both_ways)
        if c.item_cluster_weight > 0:
            content = Relation(*graph.edges(CONTENT)), e.item_clusters, e.item_clusters
            terms["item_cluster"] = c.item_cluster_weight * self._clustering(e.item_clusters, content)
        if c.modal_weight > 0:
            terms["modal"] = c.modal_weight * self.disagreement(e.content, e.nodes.item)
        return terms

    def _clustering(self, assignment: Tensor, *relations: tuple[Relation, Tensor, Tensor]) -> Tensor:
        if self.config.clustering == "sharpen":
            return sharpening_loss(assignment)
        return cut_loss(*relations) + balance_loss(assignment)

    @staticmethod
    def disagreement(content: Content, items: Tensor) -> Tensor:
        """Return the importance-weighted cosine distance of content to detached behaviour, averaged over items."""
        distance = cosine_distance(content.tokens, items.detach().unsqueeze(1))  # [I, M]
        return (content.weights * distance).sum(1).mean()
