"""LATTICE: Mining Latent Structures for Multimedia Recommendation.

J. Zhang, Y. Zhu, Q. Liu, S. Wu, S. Wang, L. Wang. ACM MM 2021. https://arxiv.org/abs/2104.09036
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.graph.knn import Backend
from gmmrec.graph.latent import LatentGraph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class LATTICEConfig:
    """Settings of LATTICE; defaults are the authors' code's unless noted."""

    dim: int = 64
    """Embedding width."""
    modality_dim: int = 64
    """Width of the projected features of the learned graph."""
    num_layers: int = 2
    """Number of propagation layers on the user-item graph; 0 makes the backbone matrix factorisation."""
    item_layers: int = 1
    """Number of propagation layers on the item-item graph."""
    knn: int = 10
    """Number of neighbours per item and modality, the item itself included, in the initial and in the learned graph."""
    knn_backend: Backend = "exact"
    """Neighbour search on raw features; on the learned graph it is always exact."""
    lam: float = 0.9
    """Weight of the initial graph against the learned one; 1 omits the learned graph."""
    l2: float = 1e-5
    """Weight of the L2 term on the final vectors of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, knn=self.knn)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, l2=self.l2, init_std=self.init_std)
        check_probability(lam=self.lam)
        check_literals(self)


class LATTICE(Recommender[UserQuery, LATTICEConfig], FoldsInUsers):
    """Collaborative filtering plus item embeddings smoothed on a latent item-item graph, mined from features and partly learned.

    Per modality, a k-NN graph of raw features and one of projected features are mixed with learned weights. The latent graph is
    mined at the start of every epoch (:meth:`begin_epoch`) and has gradients in the first step of the epoch only: while the model's
    weights are those the graph was mixed with, similarities are computed with gradients; once the weights have changed, the graph
    stays fixed. In evaluation mode the graph is that of the current weights: mined at the first call of :meth:`encode`
    and cached until the weights or the initial graph change. A subgraph with outdated learned edges then searches among its own
    items only; sample it from ``begin_epoch(graph, generator)`` for current edges.

    Deviations from the authors' code: raw features are not trained; negative similarities are clipped at 0; the optimiser skips
    projections in steps without a gradient, where old versions of PyTorch continued by momentum; training pairs are the shuffled
    training interactions. If an item lacks a modality, the weights of the others are scaled up; an item without features is its
    only neighbour. The paper does not consider such items.

    Raises:
        UsageError: The items have no features.
    """

    def __init__(self, schema: GraphSchema, config: LATTICEConfig = LATTICEConfig()) -> None:
        super().__init__(schema, config)
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.latent = LatentGraph(schema, config.modality_dim, knn=config.knn, lam=config.lam, backend=config.knn_backend)
        self.conv, self.propagate = LightConv(), SelfLoopPropagation(config.num_layers)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Build the initial graphs from raw features, and the latent graph of the current weights."""
        return self.latent.prepare(graph)

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Mine the latent graph of the current weights."""
        return self.latent.mined(graph)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return collaborative vectors; those of items include their smoothed embeddings at unit length."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        users, items = self.propagate(ids, graph.bipartite)
        latent, smoothed = self.latent(graph), ids.item
        for _ in range(self.config.item_layers):
            smoothed = self.conv(smoothed, *latent)
        return Encoded({"user": users, "item": items + unit_rows(smoothed)})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return inner products."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return BPR and the squared L2 norm of the final vectors of the batch."""
        encoded = self.encode(graph)
        users, items = F.embedding(batch.query.user, encoded["user"]), F.embedding(batch.candidates, encoded["item"])
        scores = inner_product(users, items)  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(users, items)
        return terms
