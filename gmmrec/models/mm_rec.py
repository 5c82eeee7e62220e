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
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
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
"""Numbers a block of items, or of pairs, may hold at once: 16 MB."""


@dataclass(frozen=True)
class MMRecConfig(HistoryConfig):
    """Settings of MM-Rec; the authors' widths (768 and 1,024) are those of a pre-trained ViLBERT, which is not here."""

    dim: int = 64
    """Width of tokens and of the vectors of news."""
    co_attention: bool = True
    """Whether the tokens of one modality read those of another before each modality becomes one vector."""
    num_layers: int = 2
    """Layers of it."""
    num_heads: int = 8
    """Heads of it; a divisor of ``dim``."""
    attention: Literal["candidate", "mean"] = "candidate"
    """Whether clicks are weighed by each candidate, or count alike."""
    scaled: bool = False
    """Whether the inner products behind these weights are divided by the root of ``dim``; in the paper they are not."""
    unit_features: bool = True
    """Whether feature vectors are brought to length 1 before they are projected."""
    dropout: float = 0.1
    """Share of attention weights, and of what a layer of co-attention adds, that is dropped in training."""
    init_std: float = 0.02
    """Standard deviation of the initial matrices before the vectors of news: so small that unscaled products begin near 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, num_heads=self.num_heads, init_std=self.init_std)
        check_non_negative(num_layers=self.num_layers)
        check_literals(self)
        check_probability(dropout=self.dropout)


class Stream(nn.Module):
    r"""One modality of news: tokens :math:`\mathrm{LN}(\mathbf{W} \mathbf{x} + \mathbf{b})` on their way to one vector.

    In front of them stands one more, the mean of the projected tokens with a learned vector added: the whole picture, or what
    ``[CLS]`` is to a text. At the end

    .. math::
        \mathbf{y}_l = \mathbf{W}' \mathbf{h}_l + \mathbf{b}', \qquad a = \mathrm{softmax}_l(\mathbf{w}^\top \mathbf{y}_l), \qquad
        \mathbf{r} = \sum_l a_l \mathbf{y}_l

    Args:
        feature_dim: Width of a feature vector.
        dim: Width of tokens and of the result.
        unit: Whether features are brought to length 1.
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
        """Tokens ``[n, 1 + T, d]`` of some items, and which exist ``[n, 1 + T]``."""
        mask = table.mask[rows].view(len(rows), -1)
        parts = hide_missing(self.encode(table.values, rows, table.lengths if self.unit else None), mask)
        whole = masked_mean(parts, mask) + self.whole
        mask = torch.cat([mask.any(1, keepdim=True), mask], 1)
        return hide_missing(self.norm(torch.cat([whole.unsqueeze(1), parts], 1)), mask), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vector of every item ``[n, d]``, zeros without tokens, and what each token counts ``[n, T]``.

        The share of the whole goes to all tokens alike, of which it is the mean.
        """
        vectors, weights = self.gate(self.project(tokens), mask, return_weights=True)
        shares = mask[:, 1:] / mask[:, 1:].sum(1, keepdim=True).clamp(min=1)
        return vectors, weights[:, 1:] + weights[:, :1] * shares


class News(NamedTuple):
    """What is known of items, whoever looks at them."""

    vectors: Tensor
    """``[n, M, d]``, zeros where an item lacks the modality."""
    present: Tensor
    """``[n, M]``."""
    weights: list[Tensor]
    """Of the tokens in each modality ``[n, T]``."""


@dataclass(frozen=True)
class MMRecEncoded(Encoded):
    """What a candidate is in the score, and the news by modality."""

    news: News


class MMRec(Recommender[HistoryQuery, MMRecConfig, MMRecEncoded], Attends, ReadsHistories, FeatureBased):
    """Words of titles and regions of pictures read each other; every candidate then sees a reader's clicks in its own light.

    News stay apart by modality, vectors r^t and r^p, up to the score: each of a candidate's attends to both of every click, and the
    four sums make the reader. Written after the released code, with its masks mended (it loses them on the way). The layers of a
    pre-trained ViLBERT inside each stream, its word and region embeddings and its geometry are not here: features of frozen
    encoders are projected, and only the layers between the streams are learned. With more than two modalities, all pairs read each
    other and a modality goes on with the mean of what it became; with one, nothing is read. Readers have no vector but what they
    have clicked.

    Raises:
        ValueError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, config: MMRecConfig = MMRecConfig()) -> None:
        super().__init__(schema, config)
        self.names = schema.modalities(ITEM)
        if not self.names:
            raise ValueError("MM-Rec needs at least one modality of the items, but the data set has none; add a feature file")
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
        self.look = CandidateAwareAttention(scale if config.attention == "candidate" else 0.0)  # 0: all clicks count alike

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> MMRecEncoded:
        """News vectors by modality, each computed once, in blocks, whatever is asked.

        ``item`` is their sum over modalities, what a candidate is in the score.
        """
        rows = torch.arange(graph.num_nodes(ITEM), device=graph.degree(ITEM).device)
        width = sum(graph.features[name].mask[:1].numel() + 1 for name in self.names) * self.config.dim
        parts = [self._news(graph, part) for part in rows.split(max(1, CELLS // width))]
        vectors, present = torch.cat([part.vectors for part in parts]), torch.cat([part.present for part in parts])
        weights = [torch.cat(blocks) for blocks in zip(*(part.weights for part in parts), strict=True)]
        return MMRecEncoded({ITEM: vectors.sum(1)}, News(vectors, present, weights))

    def score(self, encoded: MMRecEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """The inner product of a candidate, its modalities added, with the reader as it sees them; in chunks of candidates."""
        return self._score(encoded.news.vectors, encoded.news.present, query.items, query.mask, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """How unlikely the positive is among itself and its negatives; only the batch's items are encoded, each once."""
        history, candidates, mask = batch.query.items, batch.candidates, batch.query.mask
        rows, position = torch.cat([history.masked_fill(~mask, 0), candidates], 1).unique(return_inverse=True)
        clicked, shown = position.split([history.shape[1], candidates.shape[1]], 1)
        news = self._news(graph, rows)
        scores = self._score(news.vectors, news.present, clicked, mask, shown)
        return {"softmax": F.cross_entropy(scores, torch.zeros_like(batch.positive))}

    def attention(self, encoded: MMRecEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """How much each token counts in its modality of the news, and each click for them.

        Args:
            encoded: What ``encode`` returned.
            query: B histories.
            items: One item for each ``[B]``.

        Returns:
            By modality, ``[B]`` or ``[B, T]`` for T tokens: each modality sums to 1. ``user:history`` ``[B, L]``: the share of a
            click in the sums of all pairs of modalities; ``user:history_items`` has their rows, -1 where there is none.
        """
        vectors, present, weights_of_tokens = encoded.news
        parts = [weights[items] for weights in weights_of_tokens]
        found = {name: part.squeeze(1) if part.shape[1] == 1 else part for name, part in zip(self.names, parts, strict=True)}
        rows, mask = query.items[:, -self.config.max_length :], query.mask[:, -self.config.max_length :]
        clicks, there = _at(vectors, present, rows.masked_fill(~mask, 0))
        seen = _at(vectors, present, items.unsqueeze(1))
        weights = self.look(clicks, there & mask.unsqueeze(2), *seen, return_weights=True)[1][:, 0].sum((1, 3))  # [B, L]
        shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
        return found | {"user:history": shares, "user:history_items": rows.masked_fill(~mask, -1)}

    def _news(self, graph: MultimodalGraph, rows: Tensor) -> News:
        """The items in ``rows`` ``[n]``."""
        streams = [cast(Stream, stream) for stream in self.streams]
        parts = [stream.tokens(graph.features[name], rows) for name, stream in zip(self.names, streams, strict=True)]
        tokens, masks = [values for values, _ in parts], [mask for _, mask in parts]
        for layer in self.layers:
            read: list[list[Tensor]] = [[] for _ in tokens]
            for (left, right), between in zip(self.pairs, cast(nn.ModuleList, layer), strict=True):
                new = between(tokens[left], tokens[right], masks[left], masks[right])
                read[left].append(new[0])
                read[right].append(new[1])
            tokens = [torch.stack(own).mean(0) if len(own) > 1 else own[0] for own in read]
        pooled = [stream.pool(*part) for stream, *part in zip(streams, tokens, masks, strict=True)]
        present = torch.stack([mask[:, 0] for mask in masks], 1)
        return News(torch.stack([vectors for vectors, _ in pooled], 1), present, [weights for _, weights in pooled])

    def _score(self, vectors: Tensor, present: Tensor, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        """Scores ``[B, C]``; histories and candidates are rows of ``vectors`` ``[n, M, d]``."""
        history, mask = history[:, -self.config.max_length :], mask[:, -self.config.max_length :]
        clicks, there = _at(vectors, present, history.masked_fill(~mask, 0))
        there = there & mask.unsqueeze(2)

        def score(part: slice) -> Tensor:
            return self.look.score(clicks, there, *_at(vectors, present, candidates[..., part]))

        num_modalities = present.shape[1]
        return in_chunks(score, candidates.shape[-1], CELLS // (history.numel() * num_modalities**2))


def _at(vectors: Tensor, present: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors ``[..., M, d]`` of the items in ``rows`` ``[...]``, and which exist ``[..., M]``."""
    return F.embedding(rows, vectors.flatten(1)).unflatten(-1, vectors.shape[1:]), present[rows]
