"""MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video.

Y. Wei, X. Wang, L. Nie, X. He, R. Hong, T.-S. Chua. ACM MM 2019, pages 1437-1445. https://doi.org/10.1145/3343031.3351034
"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.mmgcn import MMGCNEncoder
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class MMGCNConfig:
    """Settings of MMGCN; defaults are the paper's unless a field says otherwise."""

    dim: int = 64
    """Width of the ID embeddings and of the layer outputs, d."""
    modality_dim: int = 64
    """Width to which wider features are projected before the first layer; narrower ones enter as they are. The paper projects
    image features to 256; 64 is faster."""
    num_layers: int = 2
    """Number of layers, L."""
    aggr: Literal["mean", "max"] = "mean"
    """Aggregation over neighbours."""
    combine: Literal["add", "concat"] = "add"
    """Combination of a node's neighbourhood with its own state: element-wise sum, or concatenation."""
    fusion: Literal["mean", "sum"] = "mean"
    """Fusion of modalities, for an item only those present; the sum in the paper, the mean in the authors' code."""
    l2: float = 1e-4
    """Weight of the mean square of the ID embeddings and preferences in the batch; the authors' value for MovieLens. For TikTok and
    Kwai they use 0.1."""
    init_std: float = 0.1
    """Standard deviation of the initial ID embeddings and preferences, of which the paper only says that they are Gaussian; 0 for
    Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, num_layers=self.num_layers)
        check_literals(self)
        check_non_negative(l2=self.l2, init_std=self.init_std)


class MMGCN(Recommender[UserQuery, MMGCNConfig], FoldsInUsers):
    """One graph convolution per modality, coupled by a shared table of ID embeddings.

    In each modality a user has a preference vector and an item its features; both aggregate their neighbours along the
    interactions, and the ID embedding is added again in every layer. The last layers of all modalities are averaged.

    This is the paper, not the released code, in which, by accident, preferences and ID embeddings are never trained, the
    combination is always the concatenation and there are always three layers. Deviations: the L2 term is the code's, a mean over
    the values in the batch, but for the preferences of every modality, not of images alone; an item that lacks a modality has a
    zero vector there, and that modality is left out of the item's fusion (a sum is scaled up). An item without any modality, which
    the paper does not consider, is the mean of all branches, to which only its ID embedding and its users contribute.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MMGCNConfig = MMGCNConfig()) -> None:
        super().__init__(schema, config)
        self.modalities = schema.modalities("item")
        if not self.modalities:
            raise UsageError(
                "MMGCN needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        num_users = schema.num_nodes["user"]
        self.users = embedding_table(num_users, config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.branches = nn.ModuleList(
            MMGCNEncoder(
                num_users,
                schema.feature_dims[name],
                config.dim,
                modality_dim=config.modality_dim,
                num_layers=config.num_layers,
                aggr=config.aggr,
                combine=config.combine,
                init_std=config.init_std,
            )
            for name in self.modalities
        )

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return the fused vectors ``[N, dim]``."""
        return Encoded(self._fused(graph)._asdict())

    def _fused(self, graph: MultimodalGraph, users: Tensor | None = None) -> UserItem:
        """Equation 9: mean or sum over modalities, for all users or distinct ``users`` ``[n, dim]``, and for all items."""
        ids, edges = UserItem(graph.gather("user", self.users), graph.gather("item", self.items)), graph.bipartite
        present = torch.stack([graph.features[name].present for name in self.modalities])  # [M, I]
        counted = torch.where(present.any(0), present, True).to(ids.item.dtype)
        weight = counted / counted.sum(0)
        outputs: list[UserItem] = [
            branch(graph.gather("user", cast(Tensor, branch.preference)), graph.features[name].pooled, exists, ids, edges, users)
            for name, branch, exists in zip(self.modalities, self.branches, present, strict=True)
        ]
        scale = len(outputs) if self.config.fusion == "sum" else 1
        return UserItem(
            user=reduce(add, [x.user for x in outputs]) * (scale / len(outputs)),
            item=reduce(add, [x.item * (scale * share[:, None]) for x, share in zip(outputs, weight, strict=True)]),
        )

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of user and candidate vectors."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the mean square of ID embeddings and preferences."""
        rows, user = torch.unique(batch.query.user, return_inverse=True)
        users, items = self._fused(graph, rows)
        scores = inner_product(F.embedding(user, users), F.embedding(batch.candidates, items))  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            user_tables = [self.users, *(cast(Tensor, branch.preference) for branch in self.branches)]
            rows = [F.embedding(batch.query.user, graph.gather("user", table)) for table in user_tables]
            rows.append(F.embedding(batch.candidates, graph.gather("item", self.items)))
            terms["l2"] = self.config.l2 * reduce(add, [r.square().mean() for r in rows])
        return terms
