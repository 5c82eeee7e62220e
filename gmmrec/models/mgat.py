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
from gmmrec.errors import UsageError
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
    """Width of the ID embeddings and of the layer outputs, d."""
    modality_dim: int = 64
    """Width of every modality before the first layer, D_m. The released code has 256, 128 and 100 by modality; 64 is faster."""
    num_layers: int = 1
    """Number of attention layers. The released code returns after 1; its unreachable code suggests that the paper has 2."""
    combine: Literal["concat", "last"] = "concat"
    """Output of a modality's branch: all layers concatenated, or the last one. The same with one layer."""
    gate: Literal["inner_product", "none"] = "inner_product"
    """Gate on the attention logits; ``none`` for plain inner-product attention."""
    loss_base: Literal["e", "2"] = "e"
    """Base of the logarithm in the BPR loss; 2 in the released code."""
    l2: float = 3.4e-5
    """Weight of half the squared L2 norm of all parameters, equivalent to the weight decay of the code's documented command."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, num_layers=self.num_layers)
        check_literals(self)
        check_non_negative(l2=self.l2)


class MGAT(Recommender[UserQuery, MGATConfig], SplitsScores, FoldsInUsers):
    """Graph attention over the interactions, separately per modality, followed by a mean over modalities.

    In each modality a user has a preference vector and an item its features; both pass through gated attention layers that share
    one table of ID embeddings. With the default of one layer this is the authors' released code; two layers are this
    implementation's reading of the paper. Deviations, with their reasons: the loss is a batch mean in natural logarithms, not a sum
    in base 2, so that its scale does not depend on the batch size (Adam is nearly invariant to it); the weight decay of the code is
    a term of the loss; an item that lacks a modality has a zero vector there, and that modality is left out of the item's mean. An
    item without any modality is the mean of all branches, to which only its ID embedding and its users contribute.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MGATConfig = MGATConfig()) -> None:
        super().__init__(schema, config)
        if not schema.modalities("item"):
            raise UsageError(
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
        """Return the mean over modalities, ``[N, dim]`` or, concatenated, ``[N, dim * num_layers]``."""
        users, items = zip(*self._shares(graph).values(), strict=True)
        return Encoded({"user": _total(users), "item": _total(items)})

    def modality_scores(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Return the contribution of every item modality to the scores; contributions sum to ``score``.

        The vector of an item is a weighted sum over modalities, and so is its inner product with the user: the contribution of
        modality m is the inner product of the user's full vector with the item's vector in m, times its weight.

        Args:
            graph: The graph that is encoded.
            users: Rows ``[B]``.
            items: Rows ``[C]``, the same for every user, or ``[B, C]``.

        Returns:
            ``[B, C]`` per modality, by name.
        """
        shares = self._shares(graph)
        queries = F.embedding(users, _total([share.user for share in shares.values()]))
        return {name: inner_product(queries, F.embedding(items, share.item)) for name, share in shares.items()}

    def _shares(self, graph: MultimodalGraph, users: Tensor | None = None) -> dict[str, UserItem]:
        """Weighted branch output of every modality, for all users or those in ``users``, and for items; they sum to the vectors."""
        names = self.schema.modalities("item")
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        edges = graph.bipartite
        present = torch.stack([graph.features[name].present for name in names]).to(ids.item.dtype)  # [M, I]
        counted = torch.where(present.any(0), present, 1.0)
        weight = counted / counted.sum(0)
        shares = {}
        for index, (name, branch) in enumerate(zip(names, self.branches, strict=True)):
            preference = graph.gather("user", cast(Tensor, branch.preference))
            x: UserItem = branch(preference, graph.features[name].pooled, present[index], ids, edges, users)
            shares[name] = UserItem(x.user / len(names), x.item * weight[index, :, None])
        return shares

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of user and candidate vectors."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the squared L2 norm of all parameters."""
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
