"""FREEDOM: A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation.

X. Zhou, Z. Shen. ACM MM 2023. https://arxiv.org/abs/2211.06924
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.denoise import denoised
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Backend, Weighting
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightConv, LightPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import EdgeType

FROZEN: EdgeType = ("item", "frozen_knn", "item")
"""The item-item graph: for every item, what its neighbours by features contribute to it."""


@dataclass(frozen=True)
class FREEDOMConfig:
    """Settings of FREEDOM; defaults are the paper's, and values from its grids."""

    dim: int = 64
    """Size of every embedding."""
    num_layers: int = 2
    """Number of propagation steps between users and items."""
    item_layers: int = 1
    """Number of propagation steps between items; 0 adds an item's own embedding in its place."""
    knn: int = 10
    """Neighbours an item has by each modality, itself included."""
    knn_weighting: Weighting = "binary"
    """Whether neighbours by features count alike (the paper) or by their cosine similarity, at least 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "incoming"
    """How a neighbour's share is normalised: by neighbours an item has (the paper: a mean), or also by how many items it is a
    neighbour of, so that no item is near everything."""
    knn_backend: Backend = "exact"
    """How neighbours are searched; ``"faiss_approximate"`` for millions of items."""
    modality_weights: dict[str, float] | None = None
    """Share of every modality in the item graph, by name; they are divided by their sum, and a modality that is not named has
    none. None: 0.1 for image and 0.9 for text where these two are what there is (the paper's), else equal shares."""
    edge_dropout: float = 0.8
    """Share of the interactions that is REMOVED from the training graph, anew each epoch; the paper tries 0.8 and 0.9."""
    aux_weight: float = 1e-3
    """Weight of the ranking loss on projected features; the paper tries 0, 1e-5, 1e-4 and 1e-3."""
    l2: float = 0.0
    """Weight of LightGCN's L2 term on the embeddings of the batch; the paper has none."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values, as in the authors' code."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, knn=self.knn)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, aux_weight=self.aux_weight)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if not 0 <= self.edge_dropout < 1:
            raise ValueError(f"edge_dropout must be at least 0 and less than 1, but is {self.edge_dropout}")
        if self.modality_weights is not None:
            check_non_negative(**{f"modality_weights[{name!r}]": value for name, value in self.modality_weights.items()})
            if not sum(self.modality_weights.values()) > 0:
                raise ValueError(f"modality_weights must hold a number greater than 0, but are {dict(self.modality_weights)}")


class FREEDOM(Recommender[UserQuery, FREEDOMConfig], FoldsInUsers):
    """LightGCN on a denoised user-item graph, plus item embeddings smoothed on a frozen item-item graph.

    The item-item graph joins items that look or read alike; it is built once from raw features and never learned. The user-item
    graph is thinned anew each epoch, edges between popular nodes first. Features enter scores through the item graph alone; a
    light ranking loss on their projections teaches the users.

    Deviations from the authors' code, where raw features are trained along: here they stay as they are. Training pairs are the
    shuffled training interactions, every one once an epoch. Where an item lacks a modality, its shares in the item graph are those
    of the modalities it has, and pairs with it are left out of that modality's loss; an item without any is its own only
    neighbour. The paper knows no such items.
    """

    def __init__(self, schema: GraphSchema, config: FREEDOMConfig = FREEDOMConfig()) -> None:
        super().__init__(schema, config)
        self.shares = modality_shares(schema.modalities("item"), config.modality_weights)
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        projected = self.shares if config.aux_weight > 0 else ()
        self.project = nn.ModuleList(nn.Linear(schema.feature_dims[name], config.dim) for name in projected)
        self.conv, self.propagate = LightConv(), LightPropagation(config.num_layers)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Freezing: the item-item graph, a mixture of one k-nearest-neighbour graph per modality."""
        c = self.config
        edges = item_graph(
            graph, self.shares, c.knn, weighting=c.knn_weighting, degrees=c.knn_degrees, backend=c.knn_backend, alone="itself"
        )
        return graph.with_edges(FROZEN, *edges)

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Denoising: keeps ``floor(E (1 - edge_dropout))`` interactions, those between nodes of low degree more often."""
        return denoised(graph, self.config.edge_dropout, generator)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Both propagations, added up for the items."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        smoothed = ids.item
        for _ in range(self.config.item_layers):
            smoothed = self.conv(smoothed, *graph.edges(FROZEN))
        users, items = self.propagate(ids, graph.bipartite)
        return Encoded({"user": users, "item": items + smoothed})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The inner product."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the same triples ranked by each modality's projected features alone."""
        encoded = self.encode(graph)
        scores = self.score(encoded, batch.query, batch.candidates)  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            tables = (graph.gather("user", self.users), graph.gather("item", self.items))
            norm = embedding_norm(F.embedding(batch.query.user, tables[0]), F.embedding(batch.candidates, tables[1]))
            terms["l2"] = self.config.l2 * norm
        users = F.embedding(batch.query.user, encoded["user"])
        rows, position = torch.unique(batch.candidates, return_inverse=True)
        for name, project in zip(self.shares, self.project, strict=False):  # none without the term
            table = graph.features[name]
            content = project_rows(table.pooled, rows, project.weight, project.bias)  # type: ignore[arg-type]
            scores = inner_product(users, F.embedding(position, content))
            present = table.present[batch.candidates]  # [B, 1 + K]
            pairs = present[:, :1] & present[:, 1:]
            difference = torch.where(pairs, scores[:, :1] - scores[:, 1:], 0.0)
            terms[f"bpr_{name}"] = self.config.aux_weight * (F.softplus(-difference) * pairs).sum() / pairs.sum().clamp(min=1)
        return terms
