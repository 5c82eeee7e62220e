"""CMBF: Cross-Modal-Based Fusion Recommendation Algorithm.

X. Chen, Y. Lu, Y. Wang, J. Yang. Sensors 2021, 21(16), 5275. https://doi.org/10.3390/s21165275
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.attention import check_heads
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
"""Width of all feed-forward layers, in widths of a token."""

CELLS = 2**24
"""Numbers a feed-forward layer may hold for a chunk of pairs: 64 MB, of which training keeps several."""

CACHED = 2**19
"""The same on a CPU without gradients: 2 MB, so that the many passes over a chunk stay in the cache."""

ITEMS = 4096
"""Items whose pictures are encoded at once."""


@dataclass(frozen=True)
class CMBFConfig:
    """Settings of CMBF; the paper's are not known. Widths are those of an industrial sample configuration, layers are fewer."""

    dim: int = 16
    """Width of every token: heads times their size."""
    num_heads: int = 2
    """Heads of every attention."""
    image: tuple[str, ...] = ()
    """Modalities of the items that make the image stream; the first one where none is named. All others are in the text stream."""
    image_tokens: int = 16
    """Tokens over which a modality of one vector is spread in the image stream; a modality of several tokens keeps them."""
    encoder_layers: int = 1
    """Layers of the Transformer encoder of each stream by itself."""
    num_layers: int = 1
    """Cross-modal layers."""
    fusion: Literal["cross_modal", "concat"] = "cross_modal"
    """``concat`` is the ablation: what the single-modal encoders give is pooled and concatenated, without cross-modal layers."""
    residual_input: bool = False
    """Whether a stream's own tokens are added to what it reads of the other one; not so in the form that is known."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the hidden layers of the perceptron in the end."""
    unit_features: bool = True
    """Whether feature vectors are scaled to a mean square of 1, which is what layers with fresh weights expect."""
    dropout: float = 0.1
    """Share of what every layer of both streams adds that is dropped in training."""
    l2: float = 1e-6
    """Weight of the L2 term on the ID embeddings of the batch."""
    init_std: float = 0.3
    """Standard deviation of the initial ID embeddings; 0 for Xavier's uniform values. Fields begin at about 0.6, beside which much
    smaller IDs are long unheard."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", tuple(self.image))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        check_positive(dim=self.dim, image_tokens=self.image_tokens, num_layers=self.num_layers)
        check_positive(**{f"hidden[{position}]": width for position, width in enumerate(self.hidden)})
        check_non_negative(encoder_layers=self.encoder_layers, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        check_heads(self.dim, self.num_heads)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, but is {self.dropout}")


@dataclass(frozen=True)
class CMBFEncoded(Encoded):
    """Fields of users and items as they enter, pictures as they leave their encoder."""

    user_tokens: Tokens
    """``[U, T, d]``, by field."""
    item_tokens: Tokens
    """``[I, T, d]``, by field."""
    image_tokens: Tokens
    """``[I, P, d]``, by modality of the image stream."""
    image_spread: tuple[bool, ...]
    """Whether all tokens of a modality were made of one vector."""


class CMBF(Recommender[UserQuery, CMBFConfig, CMBFEncoded], Attends):
    """A picture reads the other fields of a user and an item, these read the picture, and a perceptron tells clicks from the rest.

    A RECONSTRUCTION: of the paper we know the abstract and the outline; layers and their order are those of a published industrial
    implementation, whose authors call it almost exact, in words. The image stream holds the modalities named by ``image``, the text
    stream the IDs of user and item and all other modalities of both, a field each. Ours is what is missing: a missing token is
    nobody's key, an item without picture is scored by its fields alone, and an ID counts as missing where it has no interactions
    in training.

    Scores belong to pairs: two Transformer layers and more for each of them. Single-modal encoding of pictures is done once.

    Raises:
        ValueError: The items have no features at all, or not those that ``image`` names.
    """

    def __init__(self, schema: GraphSchema, config: CMBFConfig = CMBFConfig()) -> None:
        super().__init__(schema, config)
        known = schema.modalities("item")
        if not known:
            raise ValueError(
                "CMBF needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        unknown = [name for name in config.image if name not in known]
        if unknown:
            raise ValueError(
                f"image names {unknown[0]!r}, but the modalities of the items are {', '.join(known)}; name some of these"
            )
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
        parts = 1 + sum(1 + len(fields) for fields in self.fields.values())  # the picture, both IDs, and every field
        self.predict = nn.Sequential()
        for width, wider in zip((parts * dim, *config.hidden), config.hidden, strict=False):
            self.predict.extend((nn.Linear(width, wider), nn.ReLU()))
        self.predict.append(nn.Linear((parts * dim, *config.hidden)[-1], 1))

    def encode(self, graph: MultimodalGraph) -> CMBFEncoded:
        """What a user or an item has without the other: fields as they enter, pictures as they leave their encoder.

        ``user`` and ``item`` are means, for comparing and not for scores; an item's are those of its fields and of its picture,
        side by side.
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
        """The logit of a click for every pair, chunk by chunk of candidates."""
        users = encoded.user_tokens.at(query.user.unsqueeze(1))  # [B, 1, T, d]
        items, images = encoded.item_tokens, encoded.image_tokens

        def score(part: slice) -> Tensor:
            rows = candidates[..., part]
            return self._logits(users, items.at(rows), images.at(rows))

        num_tokens = sum(tokens.values.shape[-2] for tokens in (users, items, images))
        room = CACHED if users.values.device.type == "cpu" and not torch.is_grad_enabled() else CELLS
        return in_chunks(score, candidates.shape[-1], room // max(1, len(query) * num_tokens * FFN * self.config.dim))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Cross-entropy of clicks and non-clicks; only the batch's users and items are projected, each once."""
        (user, user_position), (item, position) = (
            rows.unique(return_inverse=True) for rows in (batch.query.user, batch.candidates)
        )
        users = self._text(graph, "user", user).at(user_position.unsqueeze(1))
        items, images = self._text(graph, "item", item), self._image(graph, item)
        num_tokens = sum(tokens.values.shape[-2] for tokens in (users, items, images))
        logits = in_chunks(
            lambda part: self._logits(users, items.at(position[:, part]), images.at(position[:, part])),
            position.shape[1],
            CELLS // max(1, len(batch) * num_tokens * FFN * self.config.dim),
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
        """What the fields of a user and an item read of the item's picture in the last cross-modal layer, on average.

        Args:
            encoded: What ``encode`` returned.
            query: B users.
            items: One item for each ``[B]``.

        Returns:
            For every modality of the image stream ``[B, T]``, or ``[B]`` where it is one vector: the sum over the tokens that it
            is spread over. Together they sum to 1; all are 0 for an item without picture.

        Raises:
            ValueError: There are no cross-modal layers.
        """
        if self.fuse is None:
            raise ValueError("CMBF with fusion 'concat' has no cross-modal attention to show; train it with fusion 'cross_modal'")
        users, fields = encoded.user_tokens.at(query.user), encoded.item_tokens.at(items)
        images = encoded.image_tokens.at(items)
        text = self._encoded_text(users, fields)
        weights = self.fuse(images.values, text.values, images.mask, text.mask, return_weights=True)[1].right_cross
        parts = masked_mean(weights[..., -1, :, :, :].mean(-3), text.mask).split(images.sizes, dim=-1)  # [B, P] in all
        return {
            name: part.sum(-1) if one else part for name, part, one in zip(self.images, parts, encoded.image_spread, strict=True)
        }

    def _logits(self, users: Tokens, fields: Tokens, images: Tokens) -> Tensor:
        """Scores of pairs; leading axes are broadcast."""
        text = self._encoded_text(users, fields)
        image, words = images.values, text.values
        if self.fuse is not None:
            image, words = self.fuse.streams(image, words, images.mask, text.mask)
        picture = masked_mean(image, images.mask).expand(*words.shape[:-2], -1)
        logits: Tensor = self.predict(torch.cat([picture, *pool_groups(words, text.mask, text.sizes)], dim=-1))
        return logits.squeeze(-1)

    def _encoded_text(self, users: Tokens, fields: Tokens) -> Tokens:
        """The text stream of pairs, through its own encoder."""
        lead = torch.broadcast_shapes(users.present.shape[:-1], fields.present.shape[:-1])
        values = torch.cat([tokens.values.expand(*lead, -1, -1) for tokens in (users, fields)], dim=-2)
        present = torch.cat([tokens.present.expand(*lead, -1) for tokens in (users, fields)], dim=-1)
        text = Tokens(values, present, users.sizes + fields.sizes)
        return text._replace(values=self.text_encoder(values, text.mask))

    def _text(self, graph: MultimodalGraph, side: NodeType, rows: Tensor | None = None) -> Tokens:
        """The ID and the fields of users or items, all or ``rows``."""
        table, projections = (self.users, self.project_user) if side == "user" else (self.items, self.project_item)
        if rows is None:
            rows = torch.arange(graph.num_nodes(side), device=table.device)
        known = (graph.rows(side) >= 0) & (graph.degree(side) > 0)
        parts = [(F.embedding(rows, graph.gather(side, table)).unsqueeze(1), known[rows])]
        for name, project in zip(self.fields[side], projections, strict=True):
            features = graph.features[name]
            parts.append((project(features.values, rows, self._lengths(features)), features.mask[rows]))
        return Tokens.joined(parts)

    def _image(self, graph: MultimodalGraph, rows: Tensor) -> Tokens:
        """The image stream of some items, through its own encoder."""
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
        """By what the vectors are divided, so that the mean square of their numbers is 1."""
        return features.lengths / features.dim**0.5 if self.config.unit_features else None
