"""VLSNR: Vision-Linguistics Coordination Time Sequence-aware News Recommendation.

S. Han, W. Huang, X. Luan. 2022. https://arxiv.org/abs/2210.02946
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, FeatureBased, ReadsHistories
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.attention import MultiHeadAttention, attend
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.fusion.vision_language import VisionLanguageFusion
from gmmrec.nn.init import embedding_table
from gmmrec.nn.masked import hide_missing, masked_mean
from gmmrec.nn.sequence.attentional_gru import AttentionalGRU, Steps
from gmmrec.nn.sequence.transformer import Recency
from gmmrec.nn.tokens import Tokens
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.next_item import HistoryConfig
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.typing import ITEM

ID = "id"
"""Name of the ID embedding token, which precedes the feature tokens."""

CELLS = 2**22
"""Maximum number of values in a chunk of items or of pairs: 16 MB."""


@dataclass(frozen=True)
class VLSNRConfig(HistoryConfig):
    """Settings of VLSNR; the paper's are not known, the defaults are usual for news models."""

    dim: int = 64
    """Width of tokens and news vectors."""
    hidden: int | None = None
    """State width of the recurrence; None for ``dim``. Ranking time grows with its square."""
    num_heads: int = 8
    """Number of heads of the self-attentions; a divisor of ``dim``."""
    num_layers: int = 1
    """Number of attention layers between the tokens of a news item; 0 for pooling alone."""
    ffn_mult: int = 0
    """Width of the feed-forward layer after each of them, as a multiple of ``dim``; 0 for none."""
    recurrence: Literal["update", "input", "post", "plain", "none"] = "update"
    """Recurrence over the history: a GRU whose update gate (``update``) or input (``input``) is scaled by the candidate's
    attention, additive attention after an ordinary GRU (``post``), the last state of an ordinary GRU (``plain``), or none."""
    long_term: bool = True
    """Let the candidate also attend to all clicks at once."""
    self_attention: bool = True
    """Apply self-attention between clicks first."""
    positions: bool = True
    """Add positions to this self-attention; else only the recurrence is aware of the order."""
    attention: Literal["full", "mean"] = "full"
    """Attention everywhere, or means: news are means of their tokens, and clicks have uniform weights for all candidates."""
    ids: bool = False
    """Add an ID token to every item; an addition, for catalogues whose items recur, as news do not."""
    unit_features: bool = True
    """Scale feature vectors to unit length before projection."""
    dropout: float = 0.1
    """Dropout probability of self-attention outputs."""
    init_std: float = 0.1
    """Standard deviation of the initial ID embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, hidden=self.dim if self.hidden is None else self.hidden, num_heads=self.num_heads)
        check_non_negative(num_layers=self.num_layers, ffn_mult=self.ffn_mult, init_std=self.init_std)
        check_literals(self)
        check_probability(dropout=self.dropout)
        if self.recurrence == "none" and not self.long_term:
            raise UsageError("recurrence 'none' without long_term leaves nothing of a history; switch one of them on")


class ClickEncoder(nn.Module):
    r"""Self-attention over clicks: :math:`\mathbf{H} = \mathrm{LN}(\mathbf{N} + \mathrm{MHA}(\mathbf{N} + \mathbf{P}))`.

    Positions are counted from the newest click; missing clicks are masked out.

    Args:
        dim: Width of a click.
        max_length: Longest history.
        num_heads: Number of attention heads.
        positions: Add position embeddings.
        dropout: Dropout probability of the messages.

    Shapes:
        - **input:** clicks ``[B, L, dim]``, zeros for padding, mask ``[B, L]``
        - **output:** ``[B, L, dim]``, zeros for padding
    """

    def __init__(self, dim: int, max_length: int, num_heads: int, *, positions: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.positions = Recency(max_length, dim) if positions else None
        self.hear, self.norm, self.dropout = MultiHeadAttention(dim, num_heads), nn.LayerNorm(dim), Dropout(dropout)

    def forward(self, clicks: Tensor, mask: Tensor) -> Tensor:
        """Contextualise every click by the others."""
        positioned = clicks if self.positions is None else clicks + self.positions(clicks.shape[1])
        messages, _ = self.hear(positioned, positioned, mask.unsqueeze(-2))
        return hide_missing(self.norm(clicks + self.dropout(messages)), mask)


class Clicks(NamedTuple):
    """Candidate-independent tensors of histories."""

    values: Tensor
    """``[B, L, d]``, zeros for padding."""
    mask: Tensor
    """``[B, L]``."""
    steps: Steps | None
    """The clicks as read by the recurrence."""
    keys: Tensor | None
    """Keys of the candidates' long-term attention ``[B, L, d]``."""


@dataclass(frozen=True)
class VLSNREncoded(Encoded):
    """News vectors."""

    weights: Tensor
    """Token weights in the news ``[I, T]``."""
    sizes: list[int]
    """Number of these tokens per modality."""


class VLSNR(Recommender[HistoryQuery, VLSNRConfig, VLSNREncoded], Attends, ReadsHistories, FeatureBased):
    """News recommender with vision-language attention over tokens and a candidate-aware recurrence over clicks.

    A RECONSTRUCTION: known from abstract and figures are attention layers between the image and the text of a news item,
    self-attention over the clicks, an attentional GRU over them, and a relation between clicks and candidates; the released
    repository holds images and no model. The equations in between are this implementation's: additive pooling of tokens, the
    attentional GRU of DIEN, dot-product attention of candidates to all clicks, a linear map of both interests, the inner product,
    and the softmax over a positive and its negatives. A reader is represented by their clicks alone.

    Modalities may be any, of one token or more. A missing token has weight 0; news without tokens are zero vectors, and so is a
    reader without clicks, for whom all candidates score 0.

    Raises:
        UsageError: The items have no features at all, and no ``ids``.
    """

    def __init__(self, schema: GraphSchema, config: VLSNRConfig = VLSNRConfig()) -> None:
        super().__init__(schema, config)
        c, self.names = config, schema.modalities(ITEM)
        if not self.names and not c.ids:
            raise UsageError(
                "VLSNR needs at least one modality of the items, but the data set has none; add a feature file or set ids: true"
            )
        attend, hidden = c.attention == "full", c.hidden or c.dim
        self.items = embedding_table(schema.num_nodes[ITEM], c.dim, c.init_std) if c.ids else None
        self.encode_tokens = nn.ModuleList(TokenEncoder(schema.feature_dims[name], c.dim) for name in self.names)
        self.fuse = VisionLanguageFusion(
            c.dim,
            num_heads=c.num_heads,
            num_layers=c.num_layers if attend else 0,
            ffn_mult=c.ffn_mult,
            pool="additive" if attend else "mean",
            dropout=c.dropout,
        )
        self.mix = None
        if c.self_attention and attend:
            self.mix = ClickEncoder(c.dim, c.max_length, c.num_heads, positions=c.positions, dropout=c.dropout)
        self.recur = None if c.recurrence == "none" else AttentionalGRU(c.dim, hidden, c.recurrence, attend=attend)
        self.relevance = nn.Linear(c.dim, c.dim, bias=False) if c.long_term and attend else None
        self.join = nn.Linear((hidden if self.recur else 0) + (c.dim if c.long_term else 0), c.dim, bias=False)  # W_u

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> VLSNREncoded:
        """Return the news vectors ``item`` ``[I, d]``, each computed once, in chunks, and their token weights."""
        rows = torch.arange(graph.num_nodes(ITEM), device=graph.degree(ITEM).device)
        sizes = self._tokens(graph, rows[:1]).sizes
        news = [self._news(graph, part) for part in rows.split(block_rows(CELLS, sum(sizes) * self.config.dim))]
        vectors, weights = (torch.cat(parts) for parts in zip(*news, strict=True))
        return VLSNREncoded({ITEM: vectors}, weights, sizes)

    def score(self, encoded: VLSNREncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Inner product of a candidate with the candidate-aware reader, in chunks of candidates."""
        return self._score(encoded[ITEM], query.items, query.mask, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """Cross-entropy of the positive among itself and its negatives; only the batch's items are encoded."""
        history, candidates, mask = batch.query.items, batch.candidates, batch.query.mask
        rows, position = torch.cat([history.masked_fill(~mask, 0), candidates], dim=1).unique(return_inverse=True)
        clicked, shown = position.split([history.shape[1], candidates.shape[1]], dim=1)
        scores = self._score(self._news(graph, rows)[0], clicked, mask, shown)
        return {"softmax": F.cross_entropy(scores, torch.zeros_like(batch.positive))}

    def attention(self, encoded: VLSNREncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of each token in the news, and of each click for the news.

        Args:
            encoded: What ``encode`` returned.
            query: B histories.
            items: One item per history ``[B]``.

        Returns:
            By modality (and ``"id"``), ``[B]`` or ``[B, T]`` for T tokens: together they sum to 1. ``user:history`` ``[B, L]``: the
            relevance of each click in the recurrence; ``user:long_term`` ``[B, L]``: that in the attention to all clicks. Their
            rows are in ``user:history_items`` and ``user:long_term_items``, -1 for padding. A ``plain`` recurrence has no relevance
            weights.
        """
        names = ((ID,) if self.items is not None else ()) + self.names
        parts = encoded.weights[items].split(encoded.sizes, dim=1)
        attention = {name: part.squeeze(1) if part.shape[1] == 1 else part for name, part in zip(names, parts, strict=True)}
        clicks = self._clicks(encoded[ITEM], query.items, query.mask)
        candidates = F.embedding(items, encoded[ITEM]).unsqueeze(1)
        rows = query.items[:, -clicks.mask.shape[1] :].masked_fill(~clicks.mask, -1)
        if self.recur is not None and clicks.steps is not None and self.recur.mode != "plain":
            attention |= {"user:history": self.recur.weights(clicks.steps, candidates)[:, 0], "user:history_items": rows}
        if self.config.long_term:
            if clicks.keys is None:
                weights = uniform_weights(clicks.values, clicks.mask)
            else:
                _, weights = attend(candidates, clicks.keys, clicks.values, clicks.mask.unsqueeze(1), return_weights=True)
                weights = weights[:, 0, 0]
            attention |= {"user:long_term": weights, "user:long_term_items": rows}
        return attention

    def _tokens(self, graph: MultimodalGraph, rows: Tensor) -> Tokens:
        """Tokens of the items in ``rows`` ``[n]``; modalities are distinguished by the biases of their projections."""
        parts = []
        if self.items is not None:
            known = (graph.rows(ITEM) >= 0) & (graph.degree(ITEM) > 0)
            parts.append((F.embedding(rows, graph.gather(ITEM, self.items)).unsqueeze(1), known[rows]))
        for name, encode in zip(self.names, self.encode_tokens, strict=True):
            table = graph.features[name]
            parts.append((encode(table.values, rows, table.lengths if self.config.unit_features else None), table.mask[rows]))
        return Tokens.joined(parts)

    def _news(self, graph: MultimodalGraph, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``[n, d]`` of the items in ``rows``, and their token weights ``[n, T]``."""
        tokens = self._tokens(graph, rows)
        vectors, weights = self.fuse(tokens.values, tokens.mask, return_weights=True)
        return vectors, weights

    def _clicks(self, news: Tensor, history: Tensor, mask: Tensor) -> Clicks:
        """Encode the newest ``max_length`` items of histories, rows of ``news`` ``[n, d]``."""
        history, mask = history[:, -self.config.max_length :], mask[:, -self.config.max_length :]
        values = hide_missing(F.embedding(history.masked_fill(~mask, 0), news), mask)
        if self.mix is not None:
            values = self.mix(values, mask)
        steps = None if self.recur is None else self.recur.read(values, mask)
        return Clicks(values, mask, steps, None if self.relevance is None else self.relevance(values))

    def _reader(self, clicks: Clicks, candidates: Tensor) -> Tensor:
        """Reader vectors ``[B, C, d]`` for candidates ``[1 or B, C, d]``; ``[B, 1, d]`` if the same for all candidates."""
        parts = []
        if self.recur is not None and clicks.steps is not None:
            parts.append(self.recur.follow(clicks.steps, candidates))
        if self.config.long_term and clicks.keys is None:
            parts.append(masked_mean(clicks.values, clicks.mask).unsqueeze(1))
        elif clicks.keys is not None:
            parts.append(attend(candidates, clicks.keys, clicks.values, clicks.mask.unsqueeze(1)))
        width = max(part.shape[1] for part in parts)
        reader: Tensor = self.join(torch.cat([part.expand(-1, width, -1) for part in parts], dim=-1))
        return reader

    def _score(self, news: Tensor, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        """Scores ``[B, C]``; histories and candidates are rows of ``news`` ``[n, d]``."""
        clicks = self._clicks(news, history, mask)
        if self.relevance is None and (self.recur is None or not self.recur.attend):  # candidate-independent
            return inner_product(self._reader(clicks, news[:0].unsqueeze(0))[:, 0], F.embedding(candidates, news))

        def score(part: slice) -> Tensor:
            vectors = F.embedding(candidates[..., part].reshape(-1, candidates[..., part].shape[-1]), news)  # [1 or B, c, d]
            return (self._reader(clicks, vectors) * vectors).sum(-1)

        cells = history.shape[0] * (clicks.mask.shape[1] + 2 * self.config.dim)  # per candidate
        return in_chunks(score, candidates.shape[-1], block_rows(CELLS, cells))
