"""UVCAN: User-Video Co-Attention Network for Personalized Micro-video Recommendation.

S. Liu, Z. Chen, H. Liu, X. Hu. WWW 2019. https://doi.org/10.1145/3308558.3313513
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, ReadsUserFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.co_attention import CoAttention, GuidedAttention, Shares, first_shares
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.masked import masked_mean
from gmmrec.nn.tokens import Tokens
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import NodeType

ID = "id"
"""Name of the ID embedding token, which precedes the feature tokens."""

CELLS = 2**21
"""Maximum number of values in a chunk of pairs: 8 MB."""


@dataclass(frozen=True)
class UVCANConfig:
    """Settings of UVCAN; the paper's are not known, the defaults are those of this reconstruction."""

    dim: int = 64
    """Width of embeddings and tokens."""
    steps: int = 3
    """Number of attention steps, each guided by the memories of the one before."""
    attention: Literal["co", "mean"] = "co"
    """Co-attention, or the plain mean of a side's tokens without any steps."""
    user_attention: bool = True
    """Let the video weigh the user's tokens; else their weights are uniform in every step."""
    item_attention: bool = True
    """Let the user weigh the video's tokens; else their weights are uniform in every step."""
    score: Literal["product", "additive"] = "product"
    """Combination of token and guide in an attention logit: tanh times tanh, or the tanh of their sum."""
    accumulate: bool = True
    """Add the output of a step to the memories; else it replaces them."""
    start: Literal["mean", "first"] = "mean"
    """Initial memory: the mean of the side's tokens, or the ID embedding alone."""
    two_level: bool = False
    """Attend to the tokens of each modality first, then to modalities; else to all tokens at once."""
    hidden: int | None = None
    """Hidden width of an attention logit; None for ``dim``."""
    share_steps: bool = False
    """Share parameters between steps."""
    prediction: Literal["inner", "steps_sum", "mlp"] = "inner"
    """Inner product of the last memories, its sum over all steps, or an MLP on the last memories and their product."""
    loss: Literal["bpr", "bce"] = "bpr"
    """Pairwise ranking loss, or binary cross-entropy of every pair."""
    unit_features: bool = True
    """Scale feature vectors to unit length before projection."""
    l2: float = 1e-4
    """Weight of the L2 term on the ID embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial ID embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, hidden=self.dim if self.hidden is None else self.hidden)
        check_non_negative(steps=self.steps, l2=self.l2, init_std=self.init_std)
        check_literals(self)


@dataclass(frozen=True)
class UVCANEncoded(Encoded):
    """Projected tokens, and their means."""

    user_tokens: Tokens
    """``[U, P, d]``."""
    item_tokens: Tokens
    """``[I, T, d]``."""


class UVCAN(Recommender[UserQuery, UVCANConfig, UVCANEncoded], Attends, ReadsUserFeatures):
    """Stacked co-attention between the tokens of a user and those of a video.

    A RECONSTRUCTION: from the abstract and from surveys it is known that both sides have an ID and side information, that the cover
    of a video is cut into blocks, and that each side attends to the other in stacked steps. The equations are those of stacked and
    dual attention networks. Here an item's tokens are its ID and all vectors of its modalities; several crops of a poster play the
    part of video frames. A user's tokens are the ID and the vectors of the user modalities. A user with an ID alone is a single
    token of weight 1: then there is no attention to learn on the user side.

    A missing token has weight 0. The ID token of a node without training interactions counts as missing.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: UVCANConfig = UVCANConfig()) -> None:
        super().__init__(schema, config)
        self.names: dict[NodeType, tuple[str, ...]] = {side: schema.modalities(side) for side in ("user", "item")}
        if not self.names["item"]:
            raise UsageError(
                "UVCAN needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        dim = config.dim
        self.users = embedding_table(schema.num_nodes["user"], dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], dim, config.init_std)
        self.encode_user, self.encode_item = (
            nn.ModuleList(TokenEncoder(schema.feature_dims[name], dim) for name in self.names[side]) for side in ("user", "item")
        )
        steps, start = (config.steps, config.start) if config.attention == "co" else (0, "mean")
        attend = config.user_attention and bool(self.names["user"]), config.item_attention
        self.attend = CoAttention(
            dim,
            config.hidden,
            steps=steps,
            score=config.score,
            accumulate=config.accumulate,
            start=start,
            share_steps=config.share_steps,
            attend=attend,
        )
        self.fine = None
        if config.two_level and steps and config.item_attention:
            self.fine = GuidedAttention(dim, config.hidden or dim, score=config.score)
        self.predict = None
        if config.prediction == "mlp":
            self.predict = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), nn.Linear(dim, 1, bias=False))

    def encode(self, graph: MultimodalGraph) -> UVCANEncoded:
        """Return the projected tokens of both sides.

        ``user`` and ``item`` are the means of the tokens, before any attention: for comparing nodes, not for scores.
        """
        users, items = self._tokens(graph, "user"), self._tokens(graph, "item")
        means = {side: masked_mean(tokens.values, tokens.present) for side, tokens in (("user", users), ("item", items))}
        return UVCANEncoded(means, users, items)

    def score(self, encoded: UVCANEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Score users and candidates by their memories of each other, in chunks of candidates."""
        users, items = encoded.user_tokens.at(query.user.unsqueeze(1)), encoded.item_tokens  # users [B, 1, P, d]

        def score(part: slice) -> Tensor:
            return self._score(users, items.at(candidates[..., part]))

        num_tokens, dim = items.values.shape[1:]
        width = 1 if self._holds_shares_only and candidates.dim() == 1 else max(dim, self.config.hidden or 1)  # per pair
        return in_chunks(score, candidates.shape[-1], block_rows(CELLS, len(query) * num_tokens * width))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR or cross-entropy; only the features of the batch's users and items are projected."""
        user, candidates = batch.query.user, batch.candidates
        users = self._tokens(graph, "user", user)
        users = Tokens(users.values.unsqueeze(1), users.present.unsqueeze(1), users.sizes)  # [B, 1, P, d]
        rows, position = candidates.unique(return_inverse=True)
        scores = self._score(users, self._tokens(graph, "item", rows).at(position))
        if self.config.loss == "bpr":
            terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        else:
            labels = torch.zeros_like(scores)
            labels[:, 0] = 1.0
            terms = {"bce": F.binary_cross_entropy_with_logits(scores, labels)}
        if self.config.l2 > 0:
            tables = graph.gather("user", self.users), graph.gather("item", self.items)
            norm = embedding_norm(F.embedding(user, tables[0]), F.embedding(candidates, tables[1]))
            terms["l2"] = self.config.l2 * norm
        return terms

    def attention(self, encoded: UVCANEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of each token in the last step, for pairs of a user and an item.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: One item per user ``[B]``.

        Returns:
            By modality, and ``"id"``: ``[B]``, or ``[B, T]`` for T tokens; together they sum to 1. Weights on the user side have
            names that begin with ``"user:"``. With two levels, the weight of a token is that of its modality times its weight
            inside the modality. Without steps, the weights of the initial memories.
        """
        sides = encoded.user_tokens.at(query.user), encoded.item_tokens.at(items)
        attention: dict[str, Tensor] = {}
        for prefix, side, tokens, weights in zip(("user:", ""), ("user", "item"), sides, self._weights(*sides), strict=True):
            parts = weights.split(tokens.sizes, dim=-1)
            for name, part in zip((ID, *self.names[side]), parts, strict=True):
                attention[prefix + name] = part.squeeze(-1) if part.shape[-1] == 1 else part
        return attention

    @property
    def _holds_shares_only(self) -> bool:
        """True if a pair needs one number per token, not a vector: the user's memories are then the same for all items."""
        config = self.config
        return not self.attend.left and self.fine is None and config.score == "product" and config.prediction != "mlp"

    def _tokens(self, graph: MultimodalGraph, side: NodeType, rows: Tensor | None = None) -> Tokens:
        """Tokens of all nodes on a side, or of ``rows``."""
        table, encoders = (self.users, self.encode_user) if side == "user" else (self.items, self.encode_item)
        ids, known = graph.gather(side, table), (graph.rows(side) >= 0) & (graph.degree(side) > 0)
        values, present = [(ids if rows is None else F.embedding(rows, ids)).unsqueeze(1)], [_rows(known, rows).unsqueeze(1)]
        for name, encoder in zip(self.names[side], encoders, strict=True):
            features = graph.features[name]
            values.append(encoder(features.values, rows, features.lengths if self.config.unit_features else None))
            present.append(_rows(features.mask.reshape(len(known), -1), rows))
        mask = torch.cat(present, dim=1)
        return Tokens(torch.cat(values, dim=1).masked_fill_(~mask.unsqueeze(-1), 0.0), mask, [v.shape[1] for v in values])

    def _score(self, users: Tokens, items: Tokens) -> Tensor:
        """Scores ``[B, C]`` of users ``[B, 1, P, d]`` and items ``[C, Q, d]`` or ``[B, C, Q, d]``."""
        if self.config.two_level:
            items = self._by_modality(users, items)[0]
        shares = self._shares(users, items)
        if self.predict is not None:
            user, item = _sum(shares.left[-1], users.values), _sum(shares.right[-1], items.values)
            user, item = torch.broadcast_tensors(user, item)
            logits: Tensor = self.predict(torch.cat([user, item, user * item], dim=-1))
            return logits.squeeze(-1)
        steps = range(len(shares.left)) if self.config.prediction == "steps_sum" else [-1]
        scores = []
        for k in steps:  # a product of sums is a sum of products, so no item memories are materialised per pair
            user = _sum(shares.left[k], users.values)
            scores.append((shares.right[k] * torch.einsum("...d,...td->...t", user, items.values)).sum(-1))
        return torch.stack(scores).sum(0)

    def _shares(self, users: Tokens, items: Tokens) -> Shares:
        return self.attend.shares(users.values, items.values, users.present, items.present)

    def _by_modality(self, users: Tokens, items: Tokens) -> tuple[Tokens, list[Tensor]]:
        """Pool every item modality into one token, guided by the user's first memory; return the token weights as well."""
        guide = _sum(first_shares(users.values, users.present, self.attend.start), users.values)
        tokens, weights = [], []
        for values, present in zip(items.values.split(items.sizes, -2), items.present.split(items.sizes, -1), strict=True):
            attend = self.fine if values.shape[-2] > 1 else None
            weights.append(uniform_weights(values, present) if attend is None else attend(values, present, guide))
            tokens.append(_sum(weights[-1], values))
        mask = torch.stack([present.any(-1) for present in items.present.split(items.sizes, -1)], dim=-1)
        return Tokens(torch.stack(torch.broadcast_tensors(*tokens), dim=-2), mask, [1] * len(tokens)), weights

    def _weights(self, users: Tokens, items: Tokens) -> tuple[Tensor, Tensor]:
        """Token weights of both sides in the last step."""
        inside: list[Tensor] = []
        if self.config.two_level:
            items, inside = self._by_modality(users, items)
        shares = self._shares(users, items)
        user_weights, item_weights = (steps[-1] for steps in (shares[2:] if self.attend.steps else shares[:2]))
        if inside:
            outer = item_weights.split(1, -1)
            item_weights = torch.cat([weight * inner for weight, inner in zip(outer, inside, strict=True)], dim=-1)
        return user_weights, item_weights


def _rows(table: Tensor, rows: Tensor | None) -> Tensor:
    return table if rows is None else table[rows]


def _sum(weights: Tensor, tokens: Tensor) -> Tensor:
    return torch.einsum("...t,...td->...d", weights, tokens)  # broadcasts without copying tokens
