"""MM-Rec: Visiolinguistic Model Empowered Multimodal News Recommendation.

C. Wu, F. Wu, T. Qi, C. Zhang, Y. Huang, T. Xu. SIGIR 2022. https://arxiv.org/abs/2104.07407
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, FeatureBased, ReadsHistories
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.data.features import FeatureTable
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.candidate_aware import CandidateAwareAttention
from gmmrec.nn.fusion.co_transformer import CoTransformerLayer
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.masked import hide_missing, masked_mean
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.next_item import HistoryConfig
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.typing import ITEM

CELLS = 2**22
"""Maximum number of values in a chunk of items or of pairs: 16 MB."""


@dataclass(frozen=True)
class MMRecConfig(HistoryConfig):
    """Settings of MM-Rec; the authors' widths (768 and 1,024) are those of a pre-trained ViLBERT, which is not included."""

    dim: int = 64
    """Width of tokens and of news vectors."""
    co_attention: bool = True
    """Apply co-attention between the tokens of two modalities before pooling each modality into one vector."""
    num_layers: int = 2
    """Number of co-attention layers."""
    num_heads: int = 8
    """Number of heads of the co-attention; a divisor of ``dim``."""
    attention: Literal["candidate", "mean"] = "candidate"
    """Weights of clicks: candidate-aware, or uniform."""
    scaled: bool = False
    """Divide the inner products behind these weights by the root of ``dim``; the paper does not."""
    unit_features: bool = True
    """Scale feature vectors to unit length before projection."""
    dropout: float = 0.1
    """Dropout probability of attention weights and of the outputs of co-attention layers."""
    init_std: float = 0.02
    """Standard deviation of the initial matrices before the news vectors: small enough that unscaled products start near 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, num_heads=self.num_heads, init_std=self.init_std)
        check_non_negative(num_layers=self.num_layers)
        check_literals(self)
        check_probability(dropout=self.dropout)


class Stream(nn.Module):
    r"""Encoder of one news modality: tokens :math:`\mathrm{LN}(\mathbf{W} \mathbf{x} + \mathbf{b})`, pooled into one vector.

    A global token precedes them, the mean of the projected tokens plus a learned vector: the whole image, or the ``[CLS]`` of a
    text. Pooling is

    .. math::
        \mathbf{y}_l = \mathbf{W}' \mathbf{h}_l + \mathbf{b}', \qquad a = \mathrm{softmax}_l(\mathbf{w}^\top \mathbf{y}_l), \qquad
        \mathbf{r} = \sum_l a_l \mathbf{y}_l

    Args:
        feature_dim: Width of a feature vector.
        dim: Width of tokens and of the result.
        unit: Scale features to unit length.
        init_std: Standard deviation of the initial W'.
    """

    def __init__(self, feature_dim: int, dim: int, *, unit: bool = True, init_std: float = 0.02) -> None:
        super().__init__()
        self.unit = unit
        self.encode, self.norm = TokenEncoder(feature_dim, dim), nn.LayerNorm(dim)
        self.whole = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.project, self.gate = nn.Linear(dim, dim), GateFusion(dim)
        nn.init.normal_(self.project.weight, std=init_std)
        nn.init.zeros_(self.project.bias)

    def tokens(self, table: FeatureTable, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens ``[n, 1 + T, d]`` of the items in ``rows``, and the mask of present ones ``[n, 1 + T]``."""
        mask = table.mask[rows].view(len(rows), -1)
        parts = hide_missing(self.encode(table.values, rows, table.lengths if self.unit else None), mask)
        whole = masked_mean(parts, mask) + self.whole
        mask = torch.cat([mask.any(1, keepdim=True), mask], 1)
        return hide_missing(self.norm(torch.cat([whole.unsqueeze(1), parts], 1)), mask), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of every item ``[n, d]``, zeros without tokens, and the weights of its tokens ``[n, T]``.

        The weight of the global token is split evenly among the tokens, of which it is the mean.
        """
        vectors, weights = self.gate(self.project(tokens), mask, return_weights=True)
        shares = mask[:, 1:] / mask[:, 1:].sum(1, keepdim=True).clamp(min=1)
        return vectors, weights[:, 1:] + weights[:, :1] * shares


class News(NamedTuple):
    """User-independent news vectors by modality."""

    vectors: Tensor
    """``[n, M, d]``, zeros where the modality is missing."""
    present: Tensor
    """``[n, M]``."""
    weights: list[Tensor]
    """Token weights of each modality ``[n, T]``."""


@dataclass(frozen=True)
class MMRecEncoded(Encoded):
    """Candidate vectors, and the news by modality."""

    news: News


class MMRec(Recommender[HistoryQuery, MMRecConfig, MMRecEncoded], Attends, ReadsHistories, FeatureBased):
    """News recommender with co-attention between title words and image regions, and candidate-aware attention over clicks.

    News keep one vector per modality, r^t and r^p, up to the score: each vector of a candidate attends to both vectors of every
    click, and the four sums make the reader. Written after the released code, with its masks fixed (the code drops them along the
    way). The layers of a pre-trained ViLBERT inside each stream, its word and region embeddings and its geometry are not included:
    features of frozen encoders are projected, and only the layers between the streams are trained. With more than two modalities,
    every pair is co-attended and a modality continues with the mean of its outputs; with one, there is no co-attention. A reader is
    represented by their clicks alone.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MMRecConfig = MMRecConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities(ITEM)
        if not self.names:
            raise UsageError("MM-Rec needs at least one modality of the items, but the data set has none; add a feature file")
        dim = config.dim
        self.streams = nn.ModuleList(
            Stream(schema.feature_dims[name], dim, unit=config.unit_features, init_std=config.init_std) for name in self.names
        )
        self.pairs = list(combinations(range(len(self.names)), 2)) if config.co_attention else []
        self.layers = nn.ModuleList(
            nn.ModuleList(CoTransformerLayer(dim, dim, num_heads=config.num_heads, dropout=config.dropout) for _ in self.pairs)
            for _ in range(config.num_layers if self.pairs else 0)
        )
        scale = dim**-0.5 if config.scaled else 1.0
        self.look = CandidateAwareAttention(scale if config.attention == "candidate" else 0.0)  # 0: uniform weights

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> MMRecEncoded:
        """Return the news vectors by modality, each computed once, in chunks.

        ``item`` is their sum over modalities, the candidate vector of the score.
        """
        rows = torch.arange(graph.num_nodes(ITEM), device=graph.degree(ITEM).device)
        width = sum(graph.features[name].mask[:1].numel() + 1 for name in self.names) * self.config.dim
        parts = [self._news(graph, part) for part in rows.split(block_rows(CELLS, width))]
        vectors, present = torch.cat([part.vectors for part in parts]), torch.cat([part.present for part in parts])
        weights = [torch.cat(blocks) for blocks in zip(*(part.weights for part in parts), strict=True)]
        return MMRecEncoded({ITEM: vectors.sum(1)}, News(vectors, present, weights))

    def score(self, encoded: MMRecEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Inner product of a candidate, summed over modalities, with the candidate-aware reader; in chunks of candidates."""
        return self._score(encoded.news.vectors, encoded.news.present, query.items, query.mask, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """Cross-entropy of the positive among itself and its negatives; only the batch's items are encoded, each once."""
        history, candidates, mask = batch.query.items, batch.candidates, batch.query.mask
        rows, position = torch.cat([history.masked_fill(~mask, 0), candidates], 1).unique(return_inverse=True)
        clicked, shown = position.split([history.shape[1], candidates.shape[1]], 1)
        news = self._news(graph, rows)
        scores = self._score(news.vectors, news.present, clicked, mask, shown)
        return {"softmax": F.cross_entropy(scores, torch.zeros_like(batch.positive))}

    def attention(self, encoded: MMRecEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of each token in its news modality, and of each click for the news.

        Args:
            encoded: What ``encode`` returned.
            query: B histories.
            items: One item per history ``[B]``.

        Returns:
            By modality, ``[B]`` or ``[B, T]`` for T tokens: each modality sums to 1. ``user:history`` ``[B, L]``: the weight of a
            click, summed over all pairs of modalities; ``user:history_items`` holds the rows, -1 for padding.
        """
        vectors, present, weights_of_tokens = encoded.news
        parts = [weights[items] for weights in weights_of_tokens]
        attention = {name: part.squeeze(1) if part.shape[1] == 1 else part for name, part in zip(self.names, parts, strict=True)}
        rows, mask = query.items[:, -self.config.max_length :], query.mask[:, -self.config.max_length :]
        clicks, clicks_present = _at(vectors, present, rows.masked_fill(~mask, 0))
        candidate = _at(vectors, present, items.unsqueeze(1))
        clicks_present = clicks_present & mask.unsqueeze(2)
        weights = self.look(clicks, clicks_present, *candidate, return_weights=True)[1][:, 0].sum((1, 3))  # [B, L]
        shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
        return attention | {"user:history": shares, "user:history_items": rows.masked_fill(~mask, -1)}

    def _news(self, graph: MultimodalGraph, rows: Tensor) -> News:
        """News vectors of the items in ``rows`` ``[n]``."""
        streams = [cast(Stream, stream) for stream in self.streams]
        parts = [stream.tokens(graph.features[name], rows) for name, stream in zip(self.names, streams, strict=True)]
        tokens, masks = [values for values, _ in parts], [mask for _, mask in parts]
        for layer in self.layers:
            outputs: list[list[Tensor]] = [[] for _ in tokens]
            for (left, right), between in zip(self.pairs, cast(nn.ModuleList, layer), strict=True):
                new = between(tokens[left], tokens[right], masks[left], masks[right])
                outputs[left].append(new[0])
                outputs[right].append(new[1])
            tokens = [torch.stack(output).mean(0) if len(output) > 1 else output[0] for output in outputs]
        pooled = [stream.pool(*part) for stream, *part in zip(streams, tokens, masks, strict=True)]
        present = torch.stack([mask[:, 0] for mask in masks], 1)
        return News(torch.stack([vectors for vectors, _ in pooled], 1), present, [weights for _, weights in pooled])

    def _score(self, vectors: Tensor, present: Tensor, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        """Scores ``[B, C]``; histories and candidates are rows of ``vectors`` ``[n, M, d]``."""
        history, mask = history[:, -self.config.max_length :], mask[:, -self.config.max_length :]
        clicks, exists = _at(vectors, present, history.masked_fill(~mask, 0))
        exists = exists & mask.unsqueeze(2)

        def score(part: slice) -> Tensor:
            return self.look.score(clicks, exists, *_at(vectors, present, candidates[..., part]))

        num_modalities = present.shape[1]
        return in_chunks(score, candidates.shape[-1], block_rows(CELLS, history.numel() * num_modalities**2))


def _at(vectors: Tensor, present: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors ``[..., M, d]`` of the items in ``rows`` ``[...]``, and the mask of present modalities ``[..., M]``."""
    return F.embedding(rows, vectors.flatten(1)).unflatten(-1, vectors.shape[1:]), present[rows]
