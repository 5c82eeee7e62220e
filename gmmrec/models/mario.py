"""MARIO: Modality-Aware Attention and Modality-Preserving Decoders for Multimedia Recommendation.

T. Kim, Y.-C. Lee, K. Shin, S.-W. Kim. CIKM 2022. https://doi.org/10.1145/3511808.3557387
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import WeighsModalities
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.decoder.modality_preserving import ModalityPreservingDecoder
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import USER_ITEM

INTERACTION = "interaction"
"""Name of the modality derived from interactions; it follows the feature modalities."""

CELLS = 2**21
"""Maximum number of values in a chunk of pairs: 8 MB."""


@dataclass(frozen=True)
class MARIOConfig:
    """Settings of MARIO; the paper's are not known, the defaults are those of this reconstruction."""

    dim: int = 64
    """Embedding width."""
    backbone: Literal["mf", "lightgcn"] = "mf"
    """Source of the vectors of users and of the interaction modality: tables (matrix factorisation), or the same tables
    propagated as in LightGCN, an extension of this implementation."""
    num_layers: int = 2
    """Number of propagation layers of ``lightgcn``."""
    encoder_layers: int = 1
    """Number of layers of the MLP on the features of a modality."""
    unit_features: bool = True
    """Scale features to unit length before encoding; not known from the paper, but it helps."""
    attention: Literal["additive", "dot"] = "additive"
    """Form of the attention logits."""
    granularity: Literal["scalar", "vector"] = "scalar"
    """One attention weight per modality, or one per modality and dimension."""
    decoder_hidden: int | None = None
    """Hidden width of a decoder; None for twice ``dim``, 0 for linear decoders."""
    mp_distance: Literal["cosine", "squared"] = "cosine"
    """Distance between decoded and raw features in the modality-preserving loss."""
    mp_weight: float = 0.1
    """Weight of the modality-preserving loss; try 0.01, 0.1, 0.5 and 1. 0 removes the decoders."""
    l2: float = 1e-4
    """Weight of the L2 term on the embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, encoder_layers=self.encoder_layers)
        check_non_negative(num_layers=self.num_layers, decoder_hidden=self.decoder_hidden or 0)
        check_non_negative(mp_weight=self.mp_weight, l2=self.l2, init_std=self.init_std)
        check_literals(self)


@dataclass(frozen=True)
class MARIOEncoded(Encoded):
    """Users, and items by modality."""

    item_tokens: Tensor
    """``[I, M + 1, d]``: one token per modality, then the interactions."""
    item_present: Tensor
    """``[I, M + 1]``."""


class MARIO(Recommender[UserQuery, MARIOConfig, MARIOEncoded], WeighsModalities):
    """User-specific attention over item modalities, with decoders that keep the modalities distinct.

    A RECONSTRUCTION: the paper was not accessible and has no public code; notation, inputs, outputs and losses are known from
    summaries, the equations in between are this implementation's. The modalities of an item are its features, each encoded by a
    small MLP, and the interactions, an embedding. A missing modality is masked out of the attention and of the decoders' loss;
    the interaction modality counts as missing for an item without training interactions.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MARIOConfig = MARIOConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities("item")
        if not self.names:
            raise UsageError(
                "MARIO needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        dims = [schema.feature_dims[name] for name in self.names]
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.propagate = LightPropagation(config.num_layers) if config.backbone == "lightgcn" else None
        self.encoders = nn.ModuleList(ContentEncoder(dim, config.dim, num_layers=config.encoder_layers) for dim in dims)
        self.fuse = ModalityAwareFusion(config.dim, attention=config.attention, granularity=config.granularity)
        self.decode = None
        if config.mp_weight > 0:
            self.decode = ModalityPreservingDecoder(config.dim, dims, hidden=config.decoder_hidden, distance=config.mp_distance)

    def encode(self, graph: MultimodalGraph) -> MARIOEncoded:
        """Return users, and items by modality.

        ``item`` is the mean view that its users have of an item: for comparing items, not for scores, and without gradient.
        """
        users, items = self._backbone(graph)
        tokens, present = self._tokens(graph, items)
        return MARIOEncoded({"user": users, "item": self._average(graph, users, tokens, present)}, tokens, present)

    def score(self, encoded: MARIOEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of the user with the user's view of the item."""
        users = F.embedding(query.user, encoded["user"])
        scores: Tensor = self.fuse.score_rows(users, encoded.item_tokens, encoded.item_present, candidates)
        return scores

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the distance of the positives' decoded features from the raw ones; only the batch's items are encoded."""
        users, items = self._backbone(graph)
        user = F.embedding(batch.query.user, users)
        rows, position = batch.candidates.unique(return_inverse=True)
        tokens, present = self._tokens(graph, F.embedding(rows, items), rows)
        views = self.fuse.seen(user, tokens, present, position)  # [B, 1 + K, d]
        scores = (views @ user.unsqueeze(-1)).squeeze(-1)
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.decode is not None:
            features = [F.embedding(batch.positive, graph.features[name].pooled) for name in self.names]
            loss: Tensor = self.decode.loss(views[:, 0], features, present[position[:, 0], :-1])
            terms["mp"] = self.config.mp_weight * loss
        if self.config.l2 > 0:
            tables = (graph.gather("user", self.users), graph.gather("item", self.items))
            norm = embedding_norm(F.embedding(batch.query.user, tables[0]), F.embedding(batch.candidates, tables[1]))
            terms["l2"] = self.config.l2 * norm
        return terms

    def modality_weights(self, graph: MultimodalGraph, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of every item modality for the users; the weights of a pair sum to 1.

        Args:
            graph: The graph that is encoded.
            users: Rows ``[B]``.
            items: Rows ``[C]``, the same for every user, or ``[B, C]``.

        Returns:
            ``[B, C]`` per modality, by name, or ``[B, C, d]`` with vector weights.
        """
        user_vectors, item_vectors = self._backbone(graph)
        rows, position = items.unique(return_inverse=True)
        tokens, present = self._tokens(graph, F.embedding(rows, item_vectors), rows)
        query = F.embedding(users, user_vectors).unsqueeze(1)
        weights: Tensor = self.fuse(tokens[position], present[position], query, return_weights=True)[1]
        return dict(zip((*self.names, INTERACTION), weights.unbind(2), strict=True))

    def _backbone(self, graph: MultimodalGraph) -> UserItem:
        """Vectors of users ``[U, d]`` and interaction vectors of items ``[I, d]``."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        return ids if self.propagate is None else UserItem(*self.propagate(ids, graph.bipartite))

    def _tokens(self, graph: MultimodalGraph, interaction: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Modality vectors ``[n, M + 1, d]`` of all items or of ``rows``, and the mask of present ones ``[n, M + 1]``."""
        known = graph.degree("item") > 0
        if self.propagate is None:  # an item without a row in the table has no embedding
            known = known & (graph.rows("item") >= 0)
        tokens, present = [], []
        for name, encoder in zip(self.names, self.encoders, strict=True):
            table = graph.features[name]
            tokens.append(encoder(table.unit if self.config.unit_features else table.pooled, rows))
            present.append(table.present)
        mask = torch.stack([*present, known], 1)
        return torch.stack([*tokens, interaction], 1), mask if rows is None else mask[rows]

    @torch.no_grad()
    def _average(self, graph: MultimodalGraph, users: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        """Mean view of every item over its training users ``[I, d]``; the plain mean of its modalities where it has none.

        The mean over users is a mean of weights, so pairs are processed in chunks and only their weights are accumulated.
        """
        tokens = hide_missing(tokens, present)
        total = tokens.new_zeros(tokens.shape if self.config.granularity == "vector" else present.shape)
        edge_index = graph.edges(USER_ITEM).edge_index.as_tensor()
        for user, item in (part.unbind() for part in edge_index.split(block_rows(CELLS, tokens[0].numel()), dim=1)):
            weights = self.fuse(tokens[item], present[item], users[user], return_weights=True)[1]
            total.index_add_(0, item, weights)
        if total.dim() == 2:
            total = total.unsqueeze(-1)
        count = torch.bincount(edge_index[1], minlength=len(tokens)).view(-1, 1, 1)
        shares = uniform_weights(tokens, present).unsqueeze(-1)
        return (torch.where(count > 0, total / count.clamp(min=1), shares) * tokens).sum(1)
