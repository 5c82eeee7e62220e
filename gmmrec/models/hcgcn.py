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
"""The item-item graph: for every item, what its neighbours by features contribute to it."""


@dataclass(frozen=True)
class HCGCNConfig:
    """Settings of HCGCN; the paper's values are not known to us, defaults are a reconstruction."""

    dim: int = 64
    """Size of every embedding."""
    num_layers: int = 2
    """Number of propagation steps between users and items; all but the first stay inside clusters."""
    num_clusters: int = 8
    """Clusters of users and items together; 1 for none, which leaves LightGCN."""
    item_layers: int = 1
    """Number of propagation steps between items."""
    item_clusters: int = 8
    """Clusters of items by content, within which they are smoothed; 1 for none."""
    temperature: float = 0.5
    """Temperature of both assignments."""
    hard: bool = False
    """Give every node to its best cluster alone, with the gradients of the soft assignment."""
    knn: int = 10
    """Neighbours an item has by each modality, itself included."""
    knn_weighting: Weighting = "cosine"
    """Whether neighbours by features count by their cosine similarity, as in LATTICE, or alike."""
    knn_backend: Backend = "exact"
    """How neighbours are searched; ``"faiss_approximate"`` for millions of items."""
    modality_weights: dict[str, float] | None = None
    """Share of every modality in the item graph, by name; they are divided by their sum. None: equal shares."""
    clustering: Literal["cut", "sharpen"] = "cut"
    """What makes clusters good: few edges between them and equal sizes, or certain assignments (DEC)."""
    cluster_weight: float = 0.1
    """Weight of the clustering loss between users and items."""
    item_cluster_weight: float = 0.1
    """Weight of the clustering loss between items."""
    modal_weight: float = 0.01
    """Weight of the term that pulls content towards behaviour, and attention towards modalities that agree with it."""
    l2: float = 1e-4
    """Weight of the L2 term on the layer-0 embeddings of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, num_clusters=self.num_clusters, item_clusters=self.item_clusters, knn=self.knn)
        check_positive(temperature=self.temperature)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, l2=self.l2, init_std=self.init_std)
        check_non_negative(cluster_weight=self.cluster_weight, item_cluster_weight=self.item_cluster_weight)
        check_non_negative(modal_weight=self.modal_weight)
        check_literals(self)


class Content(NamedTuple):
    """What features say of the items.

    Attributes:
        tokens: Projected features ``[I, M, D]``.
        weights: Importance of every modality ``[I, M]``; rows sum to 1, or to 0 for an item without features.
        fused: Their weighted sum ``[I, D]``.
    """

    tokens: Tensor
    weights: Tensor
    fused: Tensor


class Encoding(NamedTuple):
    """Everything one pass computes: final vectors, layer-0 embeddings, clusters and content."""

    nodes: UserItem
    ids: UserItem
    clusters: UserItem
    item_clusters: Tensor
    content: Content


class HCGCN(Recommender[UserQuery, HCGCNConfig], FoldsInUsers):
    """Graph convolution inside clusters: of users and items together by behaviour, and of items by content.

    Users and items are assigned to shared prototypes, items by their fused features to others, anew in every pass; the first hop
    between users and items sees all edges, further hops only as much of an edge as both ends have clusters in common. Item vectors
    smoothed on a graph of nearest neighbours, inside content clusters and without them, are added at unit length.

    RECONSTRUCTION, version 1: neither the full text nor code was available to us. The abstract tells of convolutions inside
    user-item and item-item clusters, of clustering losses, and of a constraint that adjusts the importance of modalities; every
    equation, default and the protocol here is ours, after LATTICE, IMP-GCN and bipartite co-clustering. An item without a modality
    is fused from the others; without any, it has no content, no neighbours, and the same share in every content cluster.
    """

    def __init__(self, schema: GraphSchema, config: HCGCNConfig = HCGCNConfig()) -> None:
        super().__init__(schema, config)
        names = schema.modalities("item")
        self.shares = modality_shares(names, config.modality_weights or dict.fromkeys(names, 1.0))
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        project = [nn.Linear(schema.feature_dims[name], config.dim) for name in names]
        for layer in project:
            nn.init.zeros_(layer.bias)  # at first, features of zeros weigh alike whatever their modality
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
        """The item-item graph: a mixture of one normalised k-nearest-neighbour graph per modality."""
        c = self.config
        edges = item_graph(graph, self.shares, c.knn, weighting=c.knn_weighting, backend=c.knn_backend, alone="nothing")
        return graph.with_edges(CONTENT, *edges)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Both kinds of convolution, added up for the items."""
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
        """Features of all modalities, projected and weighed by attention, as far as there are any."""
        tables = [graph.features[name] for name in self.schema.modalities("item")]
        tokens = torch.stack([project(t.pooled) for project, t in zip(self.project, tables, strict=True)], dim=1)  # [I, M, D]
        present = torch.stack([t.present for t in tables], dim=1)  # [I, M]
        weights = masked_softmax(self.attend(tokens).squeeze(-1), present)
        return Content(tokens, weights, (weights.unsqueeze(1) @ tokens).squeeze(1))

    def _smooth(self, items: Tensor, edges: Relation, clusters: Tensor) -> Tensor:
        """Averages of the convolutions inside content clusters and on the whole item graph: one product with the mean weight."""
        if self.config.item_layers == 0:
            return items
        assert edges.weight is not None
        weight = (cluster_weights(edges, clusters) + edges.weight) / 2
        for _ in range(self.config.item_layers):
            items = self.conv(items, edges.edge_index, weight)
        return items

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The inner product."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, the clustering losses of both graphs, the constraint on modalities, and the L2 term."""
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
        """How far content is from behaviour, which is held fixed, weighed by the importance of the modalities; mean over items."""
        distance = cosine_distance(content.tokens, items.detach().unsqueeze(1))  # [I, M]
        return (content.weights * distance).sum(1).mean()
