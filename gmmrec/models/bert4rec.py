"""BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer.

F. Sun, J. Liu, J. Wu, C. Pei, X. Lin, W. Ou, P. Jiang. CIKM 2019. https://arxiv.org/abs/1904.06690
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import Attends, ReadsHistories
from gmmrec.config import check_positive, check_probability
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table, truncated_normal_
from gmmrec.nn.sequence.cloze import ClozeMasker, TiedHead
from gmmrec.nn.sequence.transformer import SequenceTransformer, encode_by_length, last_positions
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.next_item import HistoryConfig
from gmmrec.tasks.query import Batch, HistoryQuery


@dataclass(frozen=True)
class BERT4RecConfig(HistoryConfig):
    """Settings of BERT4Rec; the defaults are those of the authors for MovieLens-1M, with histories of 50 items instead of 200."""

    max_length: int = 50
    """Items of a history at most; the newest are kept. The place that is asked for comes behind them."""
    stride: int = 50
    """Every how many events of a user, counted back from the last one, a training example ends. With `max_length`, the default,
    every event is in one example, since all places of an example are learned; the authors let windows overlap, by half or more."""
    dim: int = 64
    """Size of every embedding."""
    num_layers: int = 2
    """Layers of the Transformer."""
    num_heads: int = 2
    """Heads of the attention."""
    ffn_mult: int = 4
    """Width of a feed-forward layer, in widths of an embedding."""
    dropout: float = 0.2
    """Share of the input, and of what every step of a layer adds, that is dropped; 0.5 for Amazon Beauty."""
    attention_dropout: float = 0.2
    """Share of the attention weights that is dropped."""
    mask_prob: float = 0.2
    """Share of the items of an example that are hidden, at least one; the authors take 0.6 for Amazon Beauty, 0.4 for Steam."""
    max_masked: int = 40
    """Items of an example that are hidden at most."""
    last_copy: float = 1 / 11
    """Share of the examples in which the last item alone is hidden, as when the next one is asked for; the authors make one such
    copy of an example beside ten with random items hidden."""
    init_std: float = 0.02
    """Standard deviation of all initial matrices."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, ffn_mult=self.ffn_mult)
        check_positive(mask_prob=self.mask_prob, max_masked=self.max_masked, init_std=self.init_std)
        check_probability(dropout=self.dropout, attention_dropout=self.attention_dropout)
        check_probability(mask_prob=self.mask_prob, last_copy=self.last_copy)


@dataclass(frozen=True)
class BERT4RecEncoded(Encoded):
    """The table of items, and their biases."""

    item_bias: Tensor
    """``[I]``."""


class BERT4Rec(Recommender[HistoryQuery, BERT4RecConfig, BERT4RecEncoded], Attends, ReadsHistories):
    """Hides items of a sequence and finds them from what stands on both sides; what comes next is hidden behind the history.

    The layers, the head and the loss are those of the released code. Deviations: positions are counted from the newest place, so
    that they mean the same however long a history is (the code counts from the oldest); items are hidden anew in every epoch, where
    the code draws eleven copies beforehand; the vector of hidden places and the padding are no classes of the softmax; there is no
    row for token types, which the code has but uses one of. The optimiser is the trainer's: no warm-up and no linear decay.
    """

    def __init__(self, schema: GraphSchema, config: BERT4RecConfig = BERT4RecConfig()) -> None:
        super().__init__(schema, config)
        num_items = schema.num_nodes["item"]
        self.items = embedding_table(num_items, config.dim, config.init_std)
        self.hidden = embedding_table(1, config.dim, config.init_std)
        self.transformer = SequenceTransformer(
            config.dim,
            config.max_length + 1,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            ffn_mult=config.ffn_mult,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.head = TiedHead(config.dim)
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.masker = ClozeMasker(config.mask_prob, config.max_masked, last=config.last_copy)
        truncated_normal_(self, config.init_std)

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> BERT4RecEncoded:
        """The table of items, which is input and output alike, and their biases."""
        return BERT4RecEncoded({"item": graph.gather("item", self.items)}, graph.gather("item", self.bias))

    def score(self, encoded: BERT4RecEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Equation 7 at a hidden place behind the history, as logits: what is common to all candidates is left out."""

        def ask(rows: Tensor, width: int) -> Tensor:
            tokens, mask = self._asked(encoded, query.items[rows, -width:], query.mask[rows, -width:])
            states: Tensor = self.transformer(tokens, mask, last_positions(mask))
            return states

        newest = query.mask[:, -self.config.max_length :]
        targets = self.head(encode_by_length(ask, newest))
        return inner_product(targets, F.embedding(candidates, encoded["item"])) + encoded.item_bias[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """Equation 8 over all hidden places of the batch: the cross-entropy of what stood there among all items."""
        table, bias = graph.gather("item", self.items), graph.gather("item", self.bias)
        longest = self.config.max_length + 1
        items = torch.cat([batch.query.items, batch.positive[:, None]], 1)[:, -longest:]
        mask = F.pad(batch.query.mask, (0, 1), value=True)[:, -longest:]
        hidden = self.masker(mask)
        positions = hidden.flatten().nonzero().flatten()
        tokens = torch.where(hidden.unsqueeze(-1), self.hidden, F.embedding(items, table))
        states = self.transformer(tokens, mask, positions)
        return {"cloze": self.head.loss(states, table, bias, items.flatten()[positions])}

    def attention(self, encoded: BERT4RecEncoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
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
        weights = self.transformer.weights(*self._asked(encoded, rows, known))[:, :, -1].mean(1)
        return {
            "user:history": weights[:, :-1],
            "user:history_items": rows.masked_fill(~known, -1),
            "user:hidden": weights[:, -1],
        }

    def _asked(self, encoded: BERT4RecEncoded, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Histories ``[b, L]`` with a hidden place behind them: tokens ``[b, L + 1, d]`` and mask ``[b, L + 1]``."""
        hidden = self.hidden.expand(len(items), 1, -1)
        return torch.cat([F.embedding(items, encoded["item"]), hidden], 1), F.pad(mask, (0, 1), value=True)
