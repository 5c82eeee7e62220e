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
from gmmrec.errors import UsageError
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
"""Item-item graph: edges to every item from its neighbours by features."""


@dataclass(frozen=True)
class FREEDOMConfig:
    """Settings of FREEDOM; defaults are the paper's or values from its grids."""

    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of propagation layers on the user-item graph."""
    item_layers: int = 1
    """Number of propagation layers on the item-item graph; 0 adds an item's ID embedding instead."""
    knn: int = 10
    """Number of neighbours per item and modality, the item itself included."""
    knn_weighting: Weighting = "binary"
    """Uniform neighbour weights (the paper) or cosine similarities, clipped at 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "incoming"
    """Normalisation of neighbour weights: by in-degree (the paper, a mean), or also by out-degree, so that no item becomes
    everyone's neighbour."""
    knn_backend: Backend = "exact"
    """Neighbour search; ``"faiss_approximate"`` for millions of items."""
    modality_weights: dict[str, float] | None = None
    """Weight of every modality in the item graph, by name, normalised to sum to 1; modalities not named get 0. None: 0.1 for image
    and 0.9 for text if these are the modalities (the paper's), else uniform weights."""
    edge_dropout: float = 0.8
    """Proportion of interactions REMOVED from the training graph, resampled each epoch; the paper tries 0.8 and 0.9."""
    aux_weight: float = 1e-3
    """Weight of the ranking loss on projected features; the paper tries 0, 1e-5, 1e-4 and 1e-3."""
    l2: float = 0.0
    """Weight of LightGCN's L2 term on the embeddings of the batch; the paper has none."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation, as in the authors' code."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, knn=self.knn)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, aux_weight=self.aux_weight)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if not 0 <= self.edge_dropout < 1:
            raise UsageError(f"edge_dropout must be at least 0 and less than 1, but is {self.edge_dropout}")
        if self.modality_weights is not None:
            check_non_negative(**{f"modality_weights[{name!r}]": value for name, value in self.modality_weights.items()})
            if not sum(self.modality_weights.values()) > 0:
                raise UsageError(f"modality_weights must hold a number greater than 0, but are {dict(self.modality_weights)}")


class FREEDOM(Recommender[UserQuery, FREEDOMConfig], FoldsInUsers):
    """LightGCN on a denoised user-item graph, plus item embeddings smoothed on a frozen item-item graph.

    The item-item graph connects items with similar features; it is built once from raw features and never learned. The user-item
    graph is pruned anew each epoch, preferably at edges between popular nodes. Features enter scores through the item graph alone;
    a lightly weighted ranking loss on their projections trains the users.

    Deviations from the authors' code: raw features stay fixed, where the code trains them; training pairs are the shuffled training
    interactions, each once per epoch. If an item lacks a modality, its neighbours come from the modalities it has, with weights
    renormalised, and pairs with it are excluded from that modality's loss; an item without features is its only neighbour. The
    paper does not consider such items.
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
        """Build the frozen item-item graph, a weighted sum of one k-nearest-neighbour graph per modality."""
        c = self.config
        edges = item_graph(
            graph, self.shares, c.knn, weighting=c.knn_weighting, degrees=c.knn_degrees, backend=c.knn_backend, alone="itself"
        )
        return graph.with_edges(FROZEN, *edges)

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Denoise: keep ``floor(E (1 - edge_dropout))`` interactions, preferably between nodes of low degree."""
        return denoised(graph, self.config.edge_dropout, generator)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Run both propagations and sum them for the items."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        smoothed = ids.item
        for _ in range(self.config.item_layers):
            smoothed = self.conv(smoothed, *graph.edges(FROZEN))
        users, items = self.propagate(ids, graph.bipartite)
        return Encoded({"user": users, "item": items + smoothed})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return inner products."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return BPR, and BPR of the same triples on each modality's projected features alone."""
        encoded = self.encode(graph)
        scores = self.score(encoded, batch.query, batch.candidates)  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            tables = (graph.gather("user", self.users), graph.gather("item", self.items))
            norm = embedding_norm(F.embedding(batch.query.user, tables[0]), F.embedding(batch.candidates, tables[1]))
            terms["l2"] = self.config.l2 * norm
        users = F.embedding(batch.query.user, encoded["user"])
        rows, position = torch.unique(batch.candidates, return_inverse=True)
        for name, project in zip(self.shares, self.project, strict=False):  # no projections if aux_weight is 0
            table = graph.features[name]
            content = project_rows(table.pooled, rows, project.weight, project.bias)  # type: ignore[arg-type]
            scores = inner_product(users, F.embedding(position, content))
            present = table.present[batch.candidates]  # [B, 1 + K]
            pairs = present[:, :1] & present[:, 1:]
            difference = torch.where(pairs, scores[:, :1] - scores[:, 1:], 0.0)
            terms[f"bpr_{name}"] = self.config.aux_weight * (F.softplus(-difference) * pairs).sum() / pairs.sum().clamp(min=1)
        return terms
