"""CMBF: Cross-Modal-Based Fusion Recommendation Algorithm.

X. Chen, Y. Lu, Y. Wang, J. Yang. Sensors 2021, 21(16), 5275. https://doi.org/10.3390/s21165275
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, ReadsUserFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.attention import check_heads
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.cross_modal import CrossModalFusion, ScalarTokens, pool_groups
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import embedding_norm
from gmmrec.nn.masked import masked_mean
from gmmrec.nn.tokens import Tokens
from gmmrec.nn.transformer import TransformerEncoder
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import NodeType

FFN = 4
"""Width of all feed-forward layers, as a multiple of the token width."""

CELLS = 2**24
"""Maximum number of feed-forward activations per chunk of pairs: 64 MB, of which training keeps several."""

CACHED = 2**19
"""The same on a CPU without gradients: 2 MB, so that a chunk stays in the cache."""

ITEMS = 4096
"""Number of items whose images are encoded at once."""


@dataclass(frozen=True)
class CMBFConfig:
    """Settings of CMBF; the paper's are unknown. Widths are those of an industrial sample configuration, with fewer layers."""

    dim: int = 16
    """Token width: number of heads times head width."""
    num_heads: int = 2
    """Number of heads of every attention layer."""
    image: tuple[str, ...] = ()
    """Item modalities of the image stream; the first one if empty. All others are in the text stream."""
    image_tokens: int = 16
    """Number of tokens that a single-vector modality of the image stream is expanded to; multi-token modalities keep theirs."""
    encoder_layers: int = 1
    """Number of layers of each stream's own Transformer encoder."""
    num_layers: int = 1
    """Number of cross-modal layers."""
    fusion: Literal["cross_modal", "concat"] = "cross_modal"
    """``concat`` is the ablation: single-modal encodings are pooled and concatenated, without cross-modal layers."""
    residual_input: bool = False
    """Add a stream's own tokens to its cross-attention output; the published form does not."""
    hidden: tuple[int, ...] = (64, 32)
    """Hidden widths of the final MLP."""
    unit_features: bool = True
    """Scale feature vectors to a mean square of 1, as freshly initialised layers expect."""
    dropout: float = 0.1
    """Dropout probability of the residual branches of both streams."""
    l2: float = 1e-6
    """Weight of the L2 term on the ID embeddings of the batch."""
    init_std: float = 0.3
    """Standard deviation of the initial ID embeddings; 0 for Xavier uniform initialisation. Projected fields start at about 0.6,
    which would drown out much smaller IDs for a long time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", tuple(self.image))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        check_positive(dim=self.dim, image_tokens=self.image_tokens, num_layers=self.num_layers)
        check_positive(**{f"hidden[{position}]": width for position, width in enumerate(self.hidden)})
        check_non_negative(encoder_layers=self.encoder_layers, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        check_heads(self.dim, self.num_heads)
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and less than 1, but is {self.dropout}")


@dataclass(frozen=True)
class CMBFEncoded(Encoded):
    """User and item fields before their encoder, images after theirs."""

    user_tokens: Tokens
    """``[U, T, d]``, by field."""
    item_tokens: Tokens
    """``[I, T, d]``, by field."""
    image_tokens: Tokens
    """``[I, P, d]``, by modality of the image stream."""
    image_spread: tuple[bool, ...]
    """True for every image modality whose tokens were expanded from one vector."""


class CMBF(Recommender[UserQuery, CMBFConfig, CMBFEncoded], Attends, ReadsUserFeatures):
    """A click model with cross-attention between an item's image and the other fields of user and item, and an MLP on top.

    A RECONSTRUCTION: only the abstract and the outline of the paper are known to us; layers and their order follow the verbal
    description of a published industrial implementation, which its authors call almost exact. The image stream holds the modalities
    named by ``image``, the text stream the IDs of user and item and all other modalities of both, one field each. The treatment of
    missing data is ours: missing tokens are masked as keys, an item without image is scored by its fields alone, and an ID without
    training interactions counts as missing.

    Scores are pairwise: each takes two or more Transformer layers. The single-modal image encoding is computed once per item.

    Raises:
        UsageError: The items have no features, or lack those named by ``image``.
    """

    def __init__(self, schema: GraphSchema, config: CMBFConfig = CMBFConfig()) -> None:
        super().__init__(schema, config)
        known = schema.modalities("item")
        if not known:
            raise UsageError(
                "CMBF needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        unknown = [name for name in config.image if name not in known]
        if unknown:
            raise UsageError(f"image names {unknown[0]!r}, but the item modalities are {', '.join(known)}; choose from these")
        self.images = config.image or known[:1]
        self.fields: dict[NodeType, tuple[str, ...]] = {
            "user": schema.modalities("user"),
            "item": tuple(name for name in known if name not in self.images),
        }
        dim, heads, dims = config.dim, config.num_heads, schema.feature_dims
        self.users = embedding_table(schema.num_nodes["user"], dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], dim, config.init_std)
        self.project_user, self.project_item = (
            nn.ModuleList(TokenEncoder(dims[name], dim) for name in self.fields[side]) for side in ("user", "item")
        )
        self.numbers = nn.ModuleList(TokenEncoder(dims[name], config.image_tokens) for name in self.images)
        self.spread = nn.ModuleList(ScalarTokens(None, config.image_tokens, dim) for _ in self.images)
        self.image_encoder, self.text_encoder = (
            TransformerEncoder(dim, num_layers=config.encoder_layers, num_heads=heads, ffn_mult=FFN, dropout=config.dropout)
            for _ in range(2)
        )
        self.fuse = None
        if config.fusion == "cross_modal":
            self.fuse = CrossModalFusion(
                dim,
                dim,
                heads=heads,
                left_head_dim=dim // heads,
                right_head_dim=dim // heads,
                num_layers=config.num_layers,
                ffn_mult=FFN,
                dropout=config.dropout,
                residual=config.residual_input,
            )
        num_parts = 1 + sum(1 + len(fields) for fields in self.fields.values())  # the image, both IDs, and every field
        self.predict = nn.Sequential()
        for in_dim, out_dim in zip((num_parts * dim, *config.hidden), config.hidden, strict=False):
            self.predict.extend((nn.Linear(in_dim, out_dim), nn.ReLU()))
        self.predict.append(nn.Linear((num_parts * dim, *config.hidden)[-1], 1))

    def encode(self, graph: MultimodalGraph) -> CMBFEncoded:
        """Return the pair-independent tokens: fields before their encoder, images after theirs.

        ``user`` and ``item`` are mean tokens, for similarity and not for scores; an item's are those of its fields and of its
        image, concatenated.
        """
        rows = torch.arange(graph.num_nodes("item"), device=graph.degree("item").device)
        images = [self._image(graph, part) for part in rows.split(ITEMS)]
        streams = (
            self._text(graph, "user"),
            self._text(graph, "item"),
            Tokens(torch.cat([i.values for i in images]), torch.cat([i.present for i in images]), images[0].sizes),
        )
        user, item, image = (masked_mean(tokens.values, tokens.present) for tokens in streams)
        spread = tuple(graph.features[name].mask.dim() == 1 for name in self.images)
        return CMBFEncoded({"user": user, "item": torch.cat([item, image], dim=1)}, *streams, spread)

    def score(self, encoded: CMBFEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the click logit of every pair, computed in chunks of candidates."""
        users = encoded.user_tokens.at(query.user.unsqueeze(1))  # [B, 1, T, d]
        items, images = encoded.item_tokens, encoded.image_tokens

        def score_chunk(chunk: slice) -> Tensor:
            rows = candidates[..., chunk]
            return self._logits(users, items.at(rows), images.at(rows))

        num_tokens = sum(tokens.values.shape[-2] for tokens in (users, items, images))
        limit = CACHED if users.values.device.type == "cpu" and not torch.is_grad_enabled() else CELLS
        return in_chunks(score_chunk, candidates.shape[-1], block_rows(limit, len(query) * num_tokens * FFN * self.config.dim))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return the binary cross-entropy of clicks; only the users and items of the batch are projected, each once."""
        (user, user_position), (item, position) = (
            rows.unique(return_inverse=True) for rows in (batch.query.user, batch.candidates)
        )
        users = self._text(graph, "user", user).at(user_position.unsqueeze(1))
        items, images = self._text(graph, "item", item), self._image(graph, item)
        num_tokens = sum(tokens.values.shape[-2] for tokens in (users, items, images))
        logits = in_chunks(
            lambda chunk: self._logits(users, items.at(position[:, chunk]), images.at(position[:, chunk])),
            position.shape[1],
            block_rows(CELLS, len(batch) * num_tokens * FFN * self.config.dim),
        )
        clicks = torch.zeros_like(logits)
        clicks[:, 0] = 1.0
        terms = {"bce": F.binary_cross_entropy_with_logits(logits, clicks)}
        if self.config.l2 > 0:
            tables = graph.gather("user", self.users), graph.gather("item", self.items)
            norm = embedding_norm(F.embedding(batch.query.user, tables[0]), F.embedding(batch.candidates, tables[1]))
            terms["l2"] = self.config.l2 * norm
        return terms

    def attention(self, encoded: CMBFEncoded, query: UserQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the attention of user and item fields to the item's image in the last cross-modal layer, averaged over fields.

        Args:
            encoded: Result of ``encode``.
            query: B users.
            items: Item rows ``[B]``, one per user.

        Returns:
            Weights ``[B, T]`` of every modality of the image stream, or ``[B]`` for a single vector, summed over its expanded
            tokens. Together they sum to 1; all are 0 for an item without image.

        Raises:
            UsageError: There are no cross-modal layers.
        """
        if self.fuse is None:
            raise UsageError("CMBF with fusion 'concat' has no cross-modal attention to show; train it with fusion 'cross_modal'")
        users, fields = encoded.user_tokens.at(query.user), encoded.item_tokens.at(items)
        images = encoded.image_tokens.at(items)
        text = self._encoded_text(users, fields)
        weights = self.fuse(images.values, text.values, images.mask, text.mask, return_weights=True)[1].right_cross
        parts = masked_mean(weights[..., -1, :, :, :].mean(-3), text.mask).split(images.sizes, dim=-1)  # [B, P] in all
        return {
            name: part.sum(-1) if one else part for name, part, one in zip(self.images, parts, encoded.image_spread, strict=True)
        }

    def _logits(self, users: Tokens, fields: Tokens, images: Tokens) -> Tensor:
        """Return the logits of pairs; leading axes are broadcast."""
        text = self._encoded_text(users, fields)
        image, words = images.values, text.values
        if self.fuse is not None:
            image, words = self.fuse.streams(image, words, images.mask, text.mask)
        pooled_image = masked_mean(image, images.mask).expand(*words.shape[:-2], -1)
        logits: Tensor = self.predict(torch.cat([pooled_image, *pool_groups(words, text.mask, text.sizes)], dim=-1))
        return logits.squeeze(-1)

    def _encoded_text(self, users: Tokens, fields: Tokens) -> Tokens:
        """Return the encoded text stream of pairs."""
        lead = torch.broadcast_shapes(users.present.shape[:-1], fields.present.shape[:-1])
        values = torch.cat([tokens.values.expand(*lead, -1, -1) for tokens in (users, fields)], dim=-2)
        present = torch.cat([tokens.present.expand(*lead, -1) for tokens in (users, fields)], dim=-1)
        text = Tokens(values, present, users.sizes + fields.sizes)
        return text._replace(values=self.text_encoder(values, text.mask))

    def _text(self, graph: MultimodalGraph, side: NodeType, rows: Tensor | None = None) -> Tokens:
        """Return the ID and field tokens of users or items, of all or of ``rows``."""
        table, projections = (self.users, self.project_user) if side == "user" else (self.items, self.project_item)
        if rows is None:
            rows = torch.arange(graph.num_nodes(side), device=table.device)
        trained = (graph.rows(side) >= 0) & (graph.degree(side) > 0)
        parts = [(F.embedding(rows, graph.gather(side, table)).unsqueeze(1), trained[rows])]
        for name, project in zip(self.fields[side], projections, strict=True):
            features = graph.features[name]
            parts.append((project(features.values, rows, self._lengths(features)), features.mask[rows]))
        return Tokens.joined(parts)

    def _image(self, graph: MultimodalGraph, rows: Tensor) -> Tokens:
        """Return the encoded image stream of items."""
        parts = []
        for name, project, spread in zip(self.images, self.numbers, self.spread, strict=True):
            features = graph.features[name]
            numbers = project(features.values, rows, self._lengths(features))  # [n, T, P], T = 1 of one vector
            assert isinstance(spread, ScalarTokens)
            tokens = spread(numbers.squeeze(1)) if features.mask.dim() == 1 else spread.together(numbers)
            parts.append((tokens, features.mask[rows]))
        image = Tokens.joined(parts)
        return image._replace(values=self.image_encoder(image.values, image.mask))

    def _lengths(self, features: FeatureTable) -> Tensor | None:
        """Return the divisors that bring feature vectors to a mean square of 1."""
        return features.lengths / features.dim**0.5 if self.config.unit_features else None
