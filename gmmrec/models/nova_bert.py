"""NOVA-BERT: Non-invasive Self-attention for Side Information Fusion in Sequential Recommendation.

C. Liu, X. Li, G. Cai, Z. Dong, H. Zhu, L. Shang. AAAI 2021. https://arxiv.org/abs/2103.03578
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, ReadsHistories
from gmmrec.config import check_literals, check_positive, check_probability
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.encoder.content import ContentEncoder
from gmmrec.nn.fusion.side import SideFusion
from gmmrec.nn.init import embedding_table, truncated_normal_
from gmmrec.nn.sequence.cloze import ClozeMasker, TiedHead
from gmmrec.nn.sequence.non_invasive import NonInvasiveTransformer
from gmmrec.nn.sequence.transformer import Recency, encode_by_length, last_positions
from gmmrec.nn.transformer import TransformerEncoder
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.next_item import HistoryConfig
from gmmrec.tasks.query import Batch, HistoryQuery


@dataclass(frozen=True)
class NOVABERTConfig(HistoryConfig):
    """Settings of NOVA-BERT; those of its attention are the paper's, the others BERT4Rec's."""

    max_length: int = 50
    """Items of a history at most; the newest are kept. The place that is asked for comes behind them."""
    stride: int = 50
    """Every how many events of a user, counted back from the last one, a training example ends; all places of an example are
    learned."""
    dim: int = 64
    """Size of every embedding."""
    num_layers: int = 2
    """Layers of the Transformer."""
    num_heads: int = 2
    """Heads of the attention."""
    ffn_mult: int = 4
    """Width of a feed-forward layer, in widths of an embedding."""
    fusor: Literal["add", "concat", "gate"] = "gate"
    """How the ID and its side information are joined for queries and keys."""
    gate: Literal["softmax", "sigmoid"] = "softmax"
    """What becomes of the logits of a gate; the paper's sign is that of its softmax, but is also read as the sigmoid."""
    invasive: bool = False
    """Join once at the input, as usual, so that values and results hold side information too: what the paper compares with."""
    unit_features: bool = True
    """Whether features are brought to length 1 before they are projected."""
    dropout: float = 0.2
    """Share of the input, and of what every step of a layer adds, that is dropped."""
    attention_dropout: float = 0.2
    """Share of the attention weights that is dropped."""
    mask_prob: float = 0.2
    """Share of the items of an example that are hidden, at least one."""
    max_masked: int = 40
    """Items of an example that are hidden at most."""
    last_copy: float = 1 / 11
    """Share of the examples in which the last item alone is hidden, as when the next one is asked for."""
    init_std: float = 0.02
    """Standard deviation of all initial matrices."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, ffn_mult=self.ffn_mult)
        check_positive(mask_prob=self.mask_prob, max_masked=self.max_masked, init_std=self.init_std)
        check_probability(dropout=self.dropout, attention_dropout=self.attention_dropout)
        check_probability(mask_prob=self.mask_prob, last_copy=self.last_copy)
        check_literals(self)


class Sequence(NamedTuple):
    """Items of histories, some of them hidden, with what is known beside their IDs."""

    ids: Tensor
    """``[B, L, d]``."""
    sides: Tensor
    """``[B, L, M + 1, d]``: every modality, and the position."""
    present: Tensor | None
    """``[B, L, M + 1]``; None where nothing is missing."""
    mask: Tensor
    """``[B, L]``."""


@dataclass(frozen=True)
class NOVABERTEncoded(Encoded):
    """The table of items, their biases, and what is known beside their IDs."""

    item_bias: Tensor
    """``[I]``."""
    item_sides: Tensor
    """Projected features ``[I, M, d]``."""
    item_present: Tensor
    """Which of these exist ``[I, M]``."""


class NOVABERT(Recommender[HistoryQuery, NOVABERTConfig, NOVABERTEncoded], Attends, ReadsHistories):
    """BERT4Rec whose attention looks by IDs and side information, and sees IDs alone: the stack stays in the space of the IDs.

    Side information is every modality of the items, and the position, given anew to every layer; a modality that an item lacks is
    left out of its fusion. The attention and the fusions are the paper's, as read in a detailed report of its method section. There
    is no code, and these parts are RECONSTRUCTED: the residual connection goes around the ID branch; every layer has a fusion of
    its own; a hidden item hides its side information too, a learned vector stands for each of its modalities; IDs, modalities and
    positions are each normalised before they meet, so that none drowns the others; features are projected linearly, where the
    paper has embeddings of categories and ratings. Everything else is as in BERT4Rec.
    """

    def __init__(self, schema: GraphSchema, config: NOVABERTConfig = NOVABERTConfig()) -> None:
        super().__init__(schema, config)
        num_items, dim = schema.num_nodes["item"], config.dim
        self.names = schema.modalities("item")
        num_sides = len(self.names) + 1
        self.items = embedding_table(num_items, dim, config.init_std)
        self.hidden = embedding_table(1 + len(self.names), dim, config.init_std)
        self.positions = Recency(config.max_length + 1, dim)
        self.encoders = nn.ModuleList(ContentEncoder(schema.feature_dims[name], dim, num_layers=0) for name in self.names)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(1 + num_sides))
        self.dropout = Dropout(config.dropout)
        self.fuse: SideFusion | None = None
        self.transformer: NonInvasiveTransformer | TransformerEncoder
        if config.invasive:
            self.fuse, self.fused_norm = SideFusion(dim, num_sides, form=config.fusor, gate=config.gate), nn.LayerNorm(dim)
            self.transformer = TransformerEncoder(
                dim,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                ffn_mult=config.ffn_mult,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
        else:
            self.transformer = NonInvasiveTransformer(
                dim,
                num_sides,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                fusor=config.fusor,
                gate=config.gate,
                ffn_mult=config.ffn_mult,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
        self.head = TiedHead(dim)
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.masker = ClozeMasker(config.mask_prob, config.max_masked, last=config.last_copy)
        truncated_normal_(self, config.init_std)

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> NOVABERTEncoded:
        """The items, their biases, and their projected features."""
        sides, present = self._sides(graph)
        return NOVABERTEncoded({"item": graph.gather("item", self.items)}, graph.gather("item", self.bias), sides, present)

    def score(self, encoded: NOVABERTEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """The logits of a hidden place behind the history, by the pure table of items."""

        def ask(rows: Tensor, width: int) -> Tensor:
            sequence = self._asked(encoded, query.items[rows, -width:], query.mask[rows, -width:])
            return self._states(sequence, last_positions(sequence.mask))

        targets = self.head(encode_by_length(ask, query.mask[:, -self.config.max_length :]))
        return inner_product(targets, F.embedding(candidates, encoded["item"])) + encoded.item_bias[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """BERT4Rec's cross-entropy of what stood in the hidden places; only the features of the batch's items are projected."""
        table, bias = graph.gather("item", self.items), graph.gather("item", self.bias)
        longest = self.config.max_length + 1
        items = torch.cat([batch.query.items, batch.positive[:, None]], 1)[:, -longest:]
        mask = F.pad(batch.query.mask, (0, 1), value=True)[:, -longest:]
        hidden = self.masker(mask)
        places = hidden.flatten().nonzero().flatten()
        rows, inverse = items.unique(return_inverse=True)
        sides, present = self._sides(graph, rows)
        sides = F.embedding(inverse, sides.flatten(1)).unflatten(-1, sides.shape[1:])
        sequence = self._sequence(F.embedding(items, table), sides, present[inverse], mask, hidden)
        states = self._states(sequence, places)
        return {"cloze": self.head.loss(states, table, bias, items.flatten()[places])}

    def attention(self, encoded: NOVABERTEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Where the hidden place behind the history looks in the last layer, the mean over heads; it is the same for all items.

        Args:
            encoded: What ``encode`` returned.
            query: B histories.
            items: Rows ``[B]``, one for each.

        Returns:
            ``user:history`` ``[B, L]``, which items these are (``user:history_items`` ``[B, L]``, -1 where there is none) and
            ``user:hidden`` ``[B]``, the share of the hidden place itself; together they sum to 1.
        """
        longest = self.config.max_length
        rows, known = query.items[:, -longest:], query.mask[:, -longest:]
        weights = self._weights(self._asked(encoded, rows, known))[:, :, -1].mean(1)
        return {
            "user:history": weights[:, :-1],
            "user:history_items": rows.masked_fill(~known, -1),
            "user:hidden": weights[:, -1],
        }

    def _sides(self, graph: MultimodalGraph, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Projected features of all items or of ``rows`` ``[n, M, d]``, and which exist ``[n, M]``."""
        count = graph.num_nodes("item") if rows is None else len(rows)
        sides, present = [self.hidden.new_empty(count, 0, self.config.dim)], [self.hidden.new_empty(count, 0, dtype=torch.bool)]
        for name, encoder in zip(self.names, self.encoders, strict=True):
            table = graph.features[name]
            sides.append(encoder(table.unit if self.config.unit_features else table.pooled, rows).unsqueeze(1))
            present.append((table.present if rows is None else table.present[rows]).unsqueeze(1))
        return torch.cat(sides, 1), torch.cat(present, 1)

    def _asked(self, encoded: NOVABERTEncoded, items: Tensor, mask: Tensor) -> Sequence:
        """Histories ``[b, L]`` with a hidden place behind them."""
        items, hidden = F.pad(items, (0, 1)), F.pad(torch.zeros_like(mask), (0, 1), value=True)
        ids, sides, present = (table[items] for table in (encoded["item"], encoded.item_sides, encoded.item_present))
        return self._sequence(ids, sides, present, F.pad(mask, (0, 1), value=True), hidden)

    def _sequence(self, ids: Tensor, sides: Tensor, present: Tensor, mask: Tensor, hidden: Tensor) -> Sequence:
        """Puts the learned vectors in place of what is hidden, and the position beside it; every branch is normalised."""
        own, *others = self.hidden.unbind()
        id_norm, *norms, position_norm = self.norms
        ids = id_norm(torch.where(hidden.unsqueeze(-1), own, ids))
        places = position_norm(self.positions(ids.shape[1])).expand_as(ids)
        branches = [
            norm(torch.where(hidden.unsqueeze(-1), other, side))
            for norm, other, side in zip(norms, others, sides.unbind(2), strict=True)
        ]
        there = F.pad(present | hidden.unsqueeze(-1), (0, 1), value=True)
        return Sequence(ids, torch.stack([*branches, places], 2), None if bool(there.all()) else there, mask)

    def _fused(self, x: Sequence) -> Tensor:
        """The invasive way: one vector a place ``[B, L, d]``."""
        assert self.fuse is not None
        fused: Tensor = self.dropout(self.fused_norm(self.fuse(x.sides, x.present, x.ids)))
        return fused

    def _states(self, x: Sequence, places: Tensor) -> Tensor:
        """What is in some places after all layers ``[n, d]``."""
        if isinstance(self.transformer, TransformerEncoder):
            states: Tensor = self.transformer(self._fused(x), x.mask, places)
        else:
            states = self.transformer(self.dropout(x.ids), x.sides, x.mask, present=x.present, positions=places)
        return states

    def _weights(self, x: Sequence) -> Tensor:
        """Who looks at whom in the last layer ``[B, H, L, L]``."""
        if isinstance(self.transformer, TransformerEncoder):
            return self.transformer.weights(self._fused(x), x.mask)
        return self.transformer.weights(x.ids, x.sides, x.mask, present=x.present)
