"""BM3: Bootstrap Latent Representations for Multi-modal Recommendation.

X. Zhou, H. Zhou, Y. Liu, Z. Zeng, C. Miao, P. Wang, Y. You, F. Jiang. WWW 2023. https://arxiv.org/abs/2207.05969
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, IgnoresFeatures
from gmmrec.config import check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import cosine_distance
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class BM3Config:
    """Settings of BM3; defaults are the authors' best for Amazon Baby."""

    dim: int = 64
    """Embedding width."""
    num_layers: int = 1
    """Number of propagation layers; the authors try 1 and 2."""
    dropout: float = 0.5
    """Dropout probability of the targets; the authors try 0.3 and 0.5."""
    modality_weight: float = 2.0
    """Weight of the two modality losses, as in the authors' released settings; 0 omits them and their projections."""
    norm_weight: float = 0.1
    """Weight of the L2 norms of the user and item matrices; the authors try 0.1 and 0.01."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim)
        check_non_negative(num_layers=self.num_layers, modality_weight=self.modality_weight, norm_weight=self.norm_weight)
        check_non_negative(init_std=self.init_std)
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and less than 1, but is {self.dropout}")


class BM3(Recommender[UserQuery, BM3Config], FoldsInUsers, IgnoresFeatures):
    """A bootstrapped model trained on positive pairs alone: the prediction from one side is pulled to the perturbed other side.

    ID embeddings are propagated along the interactions. Each vector has an online view, through one linear predictor, and a
    target view, with dropout and without gradients. Modalities act through losses only and are not part of the score. The negatives
    of a batch are ignored.

    Reconstructed from the authors' code: the weight of the modality losses; the norm term, ``(|H_U| + |H_I|) / I`` over all
    users and items, norms not squared; one dropout mask per node and step, however often the node occurs in the batch. Added: any
    number of modalities, and missing ones: an item's two terms are 0 for a modality it lacks, and nothing else changes.

    Raises:
        UsageError: The items have no features, and modality_weight is greater than 0.
    """

    def __init__(self, schema: GraphSchema, config: BM3Config = BM3Config()) -> None:
        super().__init__(schema, config)
        self.modalities = schema.modalities("item") if config.modality_weight > 0 else ()
        if config.modality_weight > 0 and not self.modalities:
            raise UsageError(
                "BM3 needs at least one modality of the items, but the data set has none; add a feature file or set "
                "modality_weight to 0"
            )
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.project = nn.ModuleList(nn.Linear(schema.feature_dims[name], config.dim) for name in self.modalities)  # W_m, b_m
        self.predict = nn.Linear(config.dim, config.dim)  # P, one for users, items and modalities
        for linear in (*self.project, self.predict):
            nn.init.xavier_normal_(linear.weight)
        self.propagate = LightPropagation(config.num_layers)

    def propagated(self, graph: MultimodalGraph) -> UserItem:
        """Return users ``h_u``, the mean of the layers, and items ``h_i``, the same plus the ID embedding; ``[N, dim]`` each."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        users, items = self.propagate(ids, graph.bipartite)
        return UserItem(users, items + ids.item)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return the online views of all users and items."""
        users, items = self.propagated(graph)
        return Encoded({"user": self.predict(users), "item": self.predict(items)})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the inner products of online views, not the cosines used in training."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return the losses: interactions in both directions, modality alignment, masked modalities, and norms."""
        h = self.propagated(graph)
        user_rows, user = torch.unique(batch.query.user, return_inverse=True)
        item_rows, item = torch.unique(batch.positive, return_inverse=True)
        users, items = F.embedding(user_rows, h.user), F.embedding(item_rows, h.item)  # each node of the batch once
        user_target, item_target = self._target(users), self._target(items)
        toward_item = cosine_distance(F.embedding(user, self.predict(users)), F.embedding(item, item_target))
        toward_user = cosine_distance(F.embedding(item, self.predict(items)), F.embedding(user, user_target))
        terms = {"rec_user": toward_item.mean(), "rec_item": toward_user.mean()}
        if self.config.norm_weight > 0:
            norms = torch.linalg.vector_norm(h.user) + torch.linalg.vector_norm(h.item)
            terms["norm"] = self.config.norm_weight * norms / h.item.shape[0]
        align, mask = [], []
        for name, linear in zip(self.modalities, cast(Iterable[nn.Linear], self.project), strict=True):
            table = graph.features[name]
            features = project_rows(table.pooled, item_rows, linear.weight, linear.bias)  # h_i^m
            online, present = self.predict(features), table.present[item_rows]
            align.append((cosine_distance(online, item_target) * present)[item].mean())
            mask.append((cosine_distance(online, self._target(features)) * present)[item].mean())
        if self.modalities:
            weight = self.config.modality_weight
            terms |= {"align": weight * torch.stack(align).sum(), "mask": weight * torch.stack(mask).sum()}
        return terms

    def _target(self, h: Tensor) -> Tensor:
        """Return the target view of vectors ``[n, dim]``: detached, with dropout even in evaluation mode."""
        return F.dropout(h.detach(), self.config.dropout)
