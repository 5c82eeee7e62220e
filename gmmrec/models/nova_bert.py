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
    """Settings of NOVA-BERT; the attention's are the paper's, the others BERT4Rec's."""

    max_length: int = 50
    """Longest history in items; the newest are kept. The predicted position follows them."""
    stride: int = 50
    """Number of events of a user between the ends of two training examples, counted back from the last event; all positions of an
    example are trained on."""
    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of Transformer layers."""
    num_heads: int = 2
    """Number of attention heads."""
    ffn_mult: int = 4
    """Width of a feed-forward layer, as a multiple of ``dim``."""
    fusor: Literal["add", "concat", "gate"] = "gate"
    """Fusion of ID and side information for queries and keys."""
    gate: Literal["softmax", "sigmoid"] = "softmax"
    """Activation of gate logits; the paper's symbol is that of its softmax, but is also read as the sigmoid."""
    invasive: bool = False
    """Fuse once at the input, so that values and outputs hold side information too: the paper's baseline."""
    unit_features: bool = True
    """Scale features to unit length before projection."""
    dropout: float = 0.2
    """Dropout probability of the input and of sublayer outputs."""
    attention_dropout: float = 0.2
    """Dropout probability of the attention weights."""
    mask_prob: float = 0.2
    """Fraction of the items of an example that are masked, at least one."""
    max_masked: int = 40
    """Maximum number of masked items in an example."""
    last_copy: float = 1 / 11
    """Fraction of examples in which only the last item is masked, as in next-item prediction."""
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
    """Items of histories, some of them masked, with their side information."""

    ids: Tensor
    """``[B, L, d]``."""
    sides: Tensor
    """``[B, L, M + 1, d]``: every modality, then the position."""
    present: Tensor | None
    """``[B, L, M + 1]``; None if nothing is missing."""
    mask: Tensor
    """``[B, L]``."""


@dataclass(frozen=True)
class NOVABERTEncoded(Encoded):
    """The item table, item biases and side information."""

    item_bias: Tensor
    """``[I]``."""
    item_sides: Tensor
    """Projected features ``[I, M, d]``."""
    item_present: Tensor
    """Mask of the modalities present ``[I, M]``."""


class NOVABERT(Recommender[HistoryQuery, NOVABERTConfig, NOVABERTEncoded], Attends, ReadsHistories):
    """BERT4Rec with non-invasive attention: side information enters queries and keys, while values hold IDs alone.

    Side information is every item modality, and the position, fed to every layer; a missing modality is masked out of the fusion.
    The attention and the fusions are the paper's, according to a detailed report of its method section. There is no code, and
    these parts are RECONSTRUCTED: the residual connection goes around the ID branch; every layer has its own fusion; masking an
    item masks its side information too, with a learned mask vector per modality; IDs, modalities and positions are normalised
    before the fusion, so that none dominates; features are projected linearly, where the paper has embeddings of categories and
    ratings. Everything else is as in BERT4Rec.
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
        """Return the items, their biases and their projected features."""
        sides, present = self._sides(graph)
        return NOVABERTEncoded({"item": graph.gather("item", self.items)}, graph.gather("item", self.bias), sides, present)

    def score(self, encoded: NOVABERTEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Logits of a masked position after the history, against the plain item table."""

        def last_states(rows: Tensor, width: int) -> Tensor:
            sequence = self._with_mask_token(encoded, query.items[rows, -width:], query.mask[rows, -width:])
            return self._states(sequence, last_positions(sequence.mask))

        targets = self.head(encode_by_length(last_states, query.mask[:, -self.config.max_length :]))
        return inner_product(targets, F.embedding(candidates, encoded["item"])) + encoded.item_bias[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """BERT4Rec's cross-entropy of the masked items; only the features of the batch's items are projected."""
        table, bias = graph.gather("item", self.items), graph.gather("item", self.bias)
        longest = self.config.max_length + 1
        items = torch.cat([batch.query.items, batch.positive[:, None]], 1)[:, -longest:]
        mask = F.pad(batch.query.mask, (0, 1), value=True)[:, -longest:]
        hidden = self.masker(mask)
        positions = hidden.flatten().nonzero().flatten()
        rows, inverse = items.unique(return_inverse=True)
        sides, present = self._sides(graph, rows)
        sides = F.embedding(inverse, sides.flatten(1)).unflatten(-1, sides.shape[1:])
        sequence = self._sequence(F.embedding(items, table), sides, present[inverse], mask, hidden)
        states = self._states(sequence, positions)
        return {"cloze": self.head.loss(states, table, bias, items.flatten()[positions])}

    def attention(self, encoded: NOVABERTEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the last layer's attention of the masked position after the history, averaged over heads; the same for all items.

        Args:
            encoded: What ``encode`` returned.
            query: B histories.
            items: Rows ``[B]``, one per history.

        Returns:
            ``user:history`` ``[B, L]``, the rows of these items (``user:history_items`` ``[B, L]``, -1 for padding) and
            ``user:hidden`` ``[B]``, the weight of the masked position itself; together they sum to 1.
        """
        longest = self.config.max_length
        rows, mask = query.items[:, -longest:], query.mask[:, -longest:]
        weights = self._weights(self._with_mask_token(encoded, rows, mask))[:, :, -1].mean(1)
        return {
            "user:history": weights[:, :-1],
            "user:history_items": rows.masked_fill(~mask, -1),
            "user:hidden": weights[:, -1],
        }

    def _sides(self, graph: MultimodalGraph, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Projected features of all items or of ``rows`` ``[n, M, d]``, and the mask of present ones ``[n, M]``."""
        count = graph.num_nodes("item") if rows is None else len(rows)
        sides, present = [self.hidden.new_empty(count, 0, self.config.dim)], [self.hidden.new_empty(count, 0, dtype=torch.bool)]
        for name, encoder in zip(self.names, self.encoders, strict=True):
            table = graph.features[name]
            sides.append(encoder(table.unit if self.config.unit_features else table.pooled, rows).unsqueeze(1))
            present.append((table.present if rows is None else table.present[rows]).unsqueeze(1))
        return torch.cat(sides, 1), torch.cat(present, 1)

    def _with_mask_token(self, encoded: NOVABERTEncoded, items: Tensor, mask: Tensor) -> Sequence:
        """Histories ``[b, L]`` followed by a masked position."""
        items, hidden = F.pad(items, (0, 1)), F.pad(torch.zeros_like(mask), (0, 1), value=True)
        ids, sides, present = (table[items] for table in (encoded["item"], encoded.item_sides, encoded.item_present))
        return self._sequence(ids, sides, present, F.pad(mask, (0, 1), value=True), hidden)

    def _sequence(self, ids: Tensor, sides: Tensor, present: Tensor, mask: Tensor, hidden: Tensor) -> Sequence:
        """Replace masked items by the learned mask vectors, append the position, and normalise every branch."""
        id_mask, *side_masks = self.hidden.unbind()
        id_norm, *norms, position_norm = self.norms
        ids = id_norm(torch.where(hidden.unsqueeze(-1), id_mask, ids))
        positions = position_norm(self.positions(ids.shape[1])).expand_as(ids)
        branches = [
            norm(torch.where(hidden.unsqueeze(-1), other, side))
            for norm, other, side in zip(norms, side_masks, sides.unbind(2), strict=True)
        ]
        present = F.pad(present | hidden.unsqueeze(-1), (0, 1), value=True)
        return Sequence(ids, torch.stack([*branches, positions], 2), None if bool(present.all()) else present, mask)

    def _fused(self, x: Sequence) -> Tensor:
        """Invasive fusion: one vector per position ``[B, L, d]``."""
        assert self.fuse is not None
        fused: Tensor = self.dropout(self.fused_norm(self.fuse(x.sides, x.present, x.ids)))
        return fused

    def _states(self, x: Sequence, positions: Tensor) -> Tensor:
        """Outputs of the last layer at ``positions`` ``[n, d]``."""
        if isinstance(self.transformer, TransformerEncoder):
            states: Tensor = self.transformer(self._fused(x), x.mask, positions)
        else:
            states = self.transformer(self.dropout(x.ids), x.sides, x.mask, present=x.present, positions=positions)
        return states

    def _weights(self, x: Sequence) -> Tensor:
        """Attention weights of the last layer ``[B, H, L, L]``."""
        if isinstance(self.transformer, TransformerEncoder):
            return self.transformer.weights(self._fused(x), x.mask)
        return self.transformer.weights(x.ids, x.sides, x.mask, present=x.present)
