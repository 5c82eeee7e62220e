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
    """Settings of LATTICE; defaults are those of the authors' code unless a field says otherwise."""

    dim: int = 64
    """Size of every embedding."""
    modality_dim: int = 64
    """Width of the projected features that the learned graph compares."""
    num_layers: int = 2
    """Number of propagation steps between users and items; 0 makes the backbone matrix factorisation."""
    item_layers: int = 1
    """Number of propagation steps between items."""
    knn: int = 10
    """Neighbours an item has by each modality, itself included, in the initial and in the learned graph."""
    knn_backend: Backend = "exact"
    """How neighbours are searched in raw features; the learned graph is always searched exactly."""
    lam: float = 0.9
    """Share of the initial graph in the mixture with the learned one; 1 leaves the learned one out."""
    l2: float = 1e-5
    """Weight of the L2 term on the final vectors of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, knn=self.knn)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, l2=self.l2, init_std=self.init_std)
        check_probability(lam=self.lam)
        check_literals(self)


class LATTICE(Recommender[UserQuery, LATTICEConfig], FoldsInUsers):
    """Smooths item embeddings on a graph mined from features, part of which is learned, and adds them to collaborative vectors.

    Two k-NN graphs a modality, one of raw and one of projected features, are mixed with weights that are learned. The graph is
    mined anew at the start of every epoch (:meth:`begin_epoch`) and has a gradient in that epoch's first step alone: as long as the
    model's weights are those the graph was mixed with, similarities are computed with gradients, and once the weights have moved
    on, the graph stays as it is. In evaluation mode it is that of the current weights: mined at the first call of :meth:`encode`
    and kept as long as neither the weights nor the initial graph change. A subgraph whose learned edges are outdated searches among
    its own items then; draw it from ``begin_epoch(graph, generator)`` to have them up to date.

    Deviations from the authors' code: raw features are not trained; similarities below 0 count as 0; the optimiser leaves
    projections alone in steps without a gradient for them, where old versions of PyTorch went on by momentum; training pairs are
    the shuffled training interactions. Where an item lacks a modality, the weights of those it has are scaled up; an item without
    any is its own only neighbour. The paper knows no such items.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: LATTICEConfig = LATTICEConfig()) -> None:
        super().__init__(schema, config)
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.latent = LatentGraph(schema, config.modality_dim, knn=config.knn, lam=config.lam, backend=config.knn_backend)
        self.conv, self.propagate = LightConv(), SelfLoopPropagation(config.num_layers)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """The initial graphs, from raw features, and the latent one of the weights as they are."""
        return self.latent.prepare(graph)

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Mines the latent graph of the current weights."""
        return self.latent.mined(graph)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Collaborative vectors of users and items, and of items their smoothed embeddings at length 1."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        users, items = self.propagate(ids, graph.bipartite)
        latent, smoothed = self.latent(graph), ids.item
        for _ in range(self.config.item_layers):
            smoothed = self.conv(smoothed, *latent)
        return Encoded({"user": users, "item": items + unit_rows(smoothed)})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The inner product."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the L2 norm of the final vectors of the batch."""
        encoded = self.encode(graph)
        users, items = F.embedding(batch.query.user, encoded["user"]), F.embedding(batch.candidates, encoded["item"])
        scores = inner_product(users, items)  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(users, items)
        return terms
