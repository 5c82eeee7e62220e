"""MGAT: Multimodal Graph Attention Network for Recommendation.

Z. Tao, Y. Wei, X. Wang, X. He, X. Huang, T.-S. Chua. Information Processing & Management 57(5):102277, 2020.
https://doi.org/10.1016/j.ipm.2020.102277
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, SplitsScores
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.mgat import MGATEncoder
from gmmrec.nn.loss import bpr
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class MGATConfig:
    """Settings of MGAT; defaults are those of the authors' released code unless a field says otherwise."""

    dim: int = 64
    """Size of the ID embedding and of the output of a layer, d."""
    modality_dim: int = 64
    """Width of every modality before the first layer, D_m. The released code has 256, 128 and 100 by modality; 64 is faster."""
    num_layers: int = 1
    """Number of attention layers. The released code returns after 1; its unreachable part suggests that the paper has 2."""
    combine: Literal["concat", "last"] = "concat"
    """What a modality's branch yields: all layers side by side, or the last one. The same with one layer."""
    gate: Literal["inner_product", "none"] = "inner_product"
    """The gate on the attention logits; ``none`` leaves plain inner-product attention."""
    loss_base: Literal["e", "2"] = "e"
    """Base of the logarithm in the BPR loss; the released code has 2."""
    l2: float = 3.4e-5
    """Weight of half the squared length of all parameters: what the weight decay of the code's documented command amounts to."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, num_layers=self.num_layers)
        check_literals(self)
        check_non_negative(l2=self.l2)


class MGAT(Recommender[UserQuery, MGATConfig], SplitsScores, FoldsInUsers):
    """Attends over the interactions in every modality apart, and averages the modalities.

    In each modality a user has a vector of preferences and an item its features; both pass gated attention layers that share one
    table of ID embeddings. With the default of one layer this is the authors' released code; two layers are our reading of the
    paper. Deviations, with their reasons: the loss is a mean over the batch in natural logarithms, not a sum in base 2, so that its
    scale does not depend on the batch size (to Adam that makes hardly a difference); the weight decay of the code is a term of the
    loss; an item that lacks a modality has a zero vector there, and that modality is left out of the item's mean. An item without
    any is the mean of all its branches, in which only its ID embedding and its users speak.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MGATConfig = MGATConfig()) -> None:
        super().__init__(schema, config)
        if not schema.modalities("item"):
            raise ValueError(
                "MGAT needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        num_users = schema.num_nodes["user"]
        self.users = nn.Parameter(torch.empty(num_users, config.dim))
        self.items = nn.Parameter(torch.empty(schema.num_nodes["item"], config.dim))
        nn.init.xavier_normal_(self.users)
        nn.init.xavier_normal_(self.items)
        # ModuleList rather than ModuleDict: a modality may have any name
        self.branches = nn.ModuleList(
            MGATEncoder(
                num_users,
                schema.feature_dims[name],
                config.dim,
                modality_dim=config.modality_dim,
                num_layers=config.num_layers,
                gate=config.gate,
                combine=config.combine,
            )
            for name in schema.modalities("item")
        )

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """The mean over modalities, ``[N, dim]`` or, concatenated, ``[N, dim * num_layers]``."""
        users, items = zip(*self._shares(graph).values(), strict=True)
        return Encoded({"user": _total(users), "item": _total(items)})

    def modality_scores(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """What every modality of the items adds to the scores; the parts add up to ``score``.

        The vector of an item is a weighted sum over modalities, so the inner product with the user is one too: the part of modality
        m is the inner product of the user's whole vector with the item's vector in m, times its weight.

        Args:
            graph: The graph that is encoded.
            users: Rows ``[B]``.
            items: Rows ``[C]``, the same for every user, or ``[B, C]``.

        Returns:
            ``[B, C]`` for every modality, by name.
        """
        shares = self._shares(graph)
        queries = F.embedding(users, _total([share.user for share in shares.values()]))
        return {name: inner_product(queries, F.embedding(items, share.item)) for name, share in shares.items()}

    def _shares(self, graph: MultimodalGraph, users: Tensor | None = None) -> dict[str, UserItem]:
        """What every modality adds to the vectors of (some) users and of items: its branch times its weight in the mean."""
        names = self.schema.modalities("item")
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        edges = graph.bipartite
        present = torch.stack([graph.features[name].present for name in names]).to(ids.item.dtype)  # [M, I]
        voices = torch.where(present.any(0), present, 1.0)
        weight = voices / voices.sum(0)
        shares = {}
        for index, (name, branch) in enumerate(zip(names, self.branches, strict=True)):
            preference = graph.gather("user", cast(Tensor, branch.preference))
            x: UserItem = branch(preference, graph.features[name].pooled, present[index], ids, edges, users)
            shares[name] = UserItem(x.user / len(names), x.item * weight[index, :, None])
        return shares

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The inner product."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the squared length of all parameters."""
        rows, user = torch.unique(batch.query.user, return_inverse=True)
        users, items = map(_total, zip(*self._shares(graph, rows).values(), strict=True))
        scores = inner_product(F.embedding(user, users), F.embedding(batch.candidates, items))  # [B, 1 + K]
        unit = math.log(2) if self.config.loss_base == "2" else 1.0
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:]) / unit}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 / 2 * _total([p.flatten().dot(p.flatten()) for p in self.parameters()])
        return terms


def _total(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
