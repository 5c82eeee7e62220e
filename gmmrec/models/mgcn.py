"""MGCN: Multi-View Graph Convolutional Network for Multimedia Recommendation.

P. Yu, Z. Tan, G. Lu, B.-K. Bao. ACM MM 2023. https://arxiv.org/abs/2308.03588
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.item_graph import item_graph
from gmmrec.graph.knn import Backend
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightConv, LightPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.fusion.behaviour_aware import BehaviourAwareFusion
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm, info_nce
from gmmrec.nn.neighbourhood import edges_into
from gmmrec.nn.project import project_rows
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import EdgeType


def item_view(modality: str) -> EdgeType:
    """Return the edge type of a modality's frozen item-item graph.

    >>> item_view("image")
    ('item', 'frozen_image', 'item')
    """
    return ("item", f"frozen_{modality}", "item")


@dataclass(frozen=True)
class MGCNConfig:
    """Settings of MGCN; defaults are those of the authors' code."""

    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of propagation layers between users and items."""
    item_layers: int = 1
    """Number of propagation layers between items; 0 removes the item graphs."""
    knn: int = 10
    """Number of neighbours of an item per modality, itself included."""
    knn_backend: Backend = "exact"
    """Neighbour search backend; ``"faiss_approximate"`` for millions of items."""
    fuse: Literal["paper", "code"] = "code"
    """Sum of the fuser over M modalities. ``"paper"``: their shared vector plus the mean of their specific vectors, the form in
    readers' notes on the paper; ``"code"``: the sum of all of these divided by M + 1."""
    contrast_weight: float = 0.01
    """Weight of the contrastive loss; the authors try 0.001, 0.01 and 0.1. 0 removes it."""
    temperature: float = 0.2
    """Temperature of the contrastive loss."""
    deduplicate: bool = False
    """Count a user or item that occurs several times in the batch once in the contrastive loss. Otherwise, as in the authors'
    code, every occurrence counts, and an item's copies are among its negatives."""
    l2: float = 1e-4
    """Weight of the L2 term on the final vectors of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation, as in the authors' code."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, knn=self.knn, temperature=self.temperature)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, contrast_weight=self.contrast_weight)
        check_non_negative(l2=self.l2, init_std=self.init_std)
        check_literals(self)


class Purifier(nn.Module):
    r"""Behaviour-guided purifier: ID embeddings gated by content.

    .. math:: \mathbf{p} = \mathbf{e} \odot \sigma \big( \mathbf{W}_2 (\mathbf{W}_1 \mathbf{f} + \mathbf{b}_1) + \mathbf{b}_2 \big)

    Args:
        feature_dim: Width of the features.
        dim: Width of the embeddings.

    Shapes:
        - **input:** ids ``[I, dim]``, features ``[I, feature_dim]``, rows ``[n]`` of the items with features; None for all
        - **output:** ``[I, dim]``; zeros where the features are missing
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)  # W1, b1
        self.gate = nn.Linear(dim, dim)  # W2, b2

    def forward(self, ids: Tensor, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Purify all items in one wide product, the most expensive of a step."""
        weight = self.gate.weight @ self.project.weight  # no nonlinearity in between: W2 (W1 f + b1) + b2 is one product
        gate = project_rows(features, rows, weight, self.gate(self.project.bias)).sigmoid()
        if rows is None:
            return ids * gate
        return torch.zeros_like(ids).index_copy(0, rows, F.embedding(rows, ids) * gate)


class Views(NamedTuple):
    """Views of users or of items before fusion; one row per node.

    Attributes:
        behaviour: ``[N, dim]``, X.
        content: ``[N, M, dim]``, Q.
        mask: Modalities present ``[N, M]``; None if no modality is missing.
    """

    behaviour: Tensor
    content: Tensor
    mask: Tensor | None


class MGCN(Recommender[UserQuery, MGCNConfig], FoldsInUsers):
    """Behaviour-guided content purification, propagation in separate views and behaviour-aware fusion.

    Behaviour (X): ID embeddings, propagated along the interactions. Content (Q), per modality: ID embeddings of the items gated by
    features, smoothed on a frozen item-item graph, and aggregated to the users of the items. The fuser combines the modalities
    into one vector (M), which a contrastive loss ties to behaviour. The result is X + M.

    Deviation: the authors' code trains the raw features; here they are frozen. Reconstructed: the ``"paper"`` form of the fuser,
    known from readers' notes. Added: any number of modalities. An item that lacks a modality has a zero vector there and no weight
    in the fuser, and so has a user whose items all lack it.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MGCNConfig = MGCNConfig()) -> None:
        super().__init__(schema, config)
        self.modalities = schema.modalities("item")
        if not self.modalities:
            raise UsageError(
                "MGCN needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.purify = nn.ModuleList(Purifier(schema.feature_dims[name], config.dim) for name in self.modalities)
        self.fuse = BehaviourAwareFusion(config.dim, len(self.modalities), scale=config.fuse)
        self.conv, self.propagate = LightConv(), LightPropagation(config.num_layers)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the frozen item-item graphs: cosine similarities of the nearest neighbours, normalised by row sums."""
        c = self.config
        for name in self.modalities:
            edges = item_graph(graph, {name: 1.0}, c.knn, weighting="cosine", backend=c.knn_backend, alone="nothing")
            graph = graph.with_edges(item_view(name), *edges)
        return graph

    def views(self, graph: MultimodalGraph, users: Tensor | None = None, items: Tensor | None = None) -> tuple[Views, Views]:
        """Return the views of users and of items, all or the rows given."""
        ids, edges = UserItem(graph.gather("user", self.users), graph.gather("item", self.items)), graph.bipartite
        behaviour = self.propagate(ids, edges)
        present = torch.stack([graph.features[name].present for name in self.modalities], dim=1)
        is_complete = bool(present.all())
        num_users, num_items = graph.num_nodes("user"), graph.num_nodes("item")
        to_user = edges.to_user if users is None else edges_into(edges.to_user, users, num_items, num_users)
        targets, user_content, item_content = _take(ids.user, users), [], []
        for index, (name, purify) in enumerate(zip(self.modalities, self.purify, strict=True)):
            x = purify(ids.item, graph.features[name].pooled, None if is_complete else present[:, index].nonzero().flatten())
            for _ in range(self.config.item_layers):
                x = self.conv(x, *graph.edges(item_view(name)))
            user_content.append(self.conv((x, targets), *to_user))
            item_content.append(_take(x, items))
        user_mask = item_mask = None
        if not is_complete:
            user_mask = self.conv((present.to(targets.dtype), targets), *to_user) > 0
            item_mask = present if items is None else present[items]
        return (
            Views(_take(behaviour.user, users), torch.stack(user_content, dim=1), user_mask),
            Views(_take(behaviour.item, items), torch.stack(item_content, dim=1), item_mask),
        )

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return behaviour plus fused content."""
        users, items = (view.behaviour + self.fused(view) for view in self.views(graph))
        return Encoded({"user": users, "item": items})

    def fused(self, views: Views) -> Tensor:
        """Fuse the modalities of every node into one vector, M ``[N, dim]``."""
        fused: Tensor = self.fuse(views.content, views.mask, views.behaviour)
        return fused

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of user and candidate vectors."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, the contrast of fused content with behaviour, and the L2 norm; only nodes in the batch are fused, each once."""
        user_rows, user, user_count = torch.unique(batch.query.user, return_inverse=True, return_counts=True)
        item_rows, item = torch.unique(batch.candidates, return_inverse=True)
        user_views, item_views = self.views(graph, user_rows, item_rows)
        user_content, item_content = self.fused(user_views), self.fused(item_views)
        users = F.embedding(user, user_views.behaviour + user_content)
        items = F.embedding(item, item_views.behaviour + item_content)  # [B, 1 + K, dim]
        scores = inner_product(users, items)
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.contrast_weight > 0:
            positive, count = torch.unique(item[:, 0], return_counts=True)
            contrast = self._contrast(user_content, user_views.behaviour, user_count)
            contrast = contrast + self._contrast(item_content[positive], item_views.behaviour[positive], count)
            terms["contrast"] = self.config.contrast_weight * contrast
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(users, items)
        return terms

    def _contrast(self, content: Tensor, behaviour: Tensor, count: Tensor) -> Tensor:
        """InfoNCE of fused content ``[n, dim]`` against behaviour, with the number of occurrences of every row ``[n]``."""
        return info_nce(content, behaviour, self.config.temperature, None if self.config.deduplicate else count)


def _take(table: Tensor, rows: Tensor | None) -> Tensor:
    return table if rows is None else F.embedding(rows, table)
