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
    """Settings of BERT4Rec; defaults are the authors' for MovieLens-1M, with histories of 50 items instead of 200."""

    max_length: int = 50
    """Maximum history length; the newest items are kept. The masked position to predict is appended to them."""
    stride: int = 50
    """Distance between the ends of a user's training windows, in events, counted back from the last one. Equal to `max_length` (the
    default), every event is in exactly one window, as all positions of a window are trained on; the authors' windows overlap by
    half or more."""
    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of Transformer layers."""
    num_heads: int = 2
    """Number of attention heads."""
    ffn_mult: int = 4
    """Width of the feed-forward layers, as a multiple of `dim`."""
    dropout: float = 0.2
    """Dropout probability of the input and of every residual branch; 0.5 for Amazon Beauty."""
    attention_dropout: float = 0.2
    """Dropout probability of the attention weights."""
    mask_prob: float = 0.2
    """Proportion of masked items per example, at least one item; the authors use 0.6 for Amazon Beauty, 0.4 for Steam."""
    max_masked: int = 40
    """Maximum number of masked items per example."""
    last_copy: float = 1 / 11
    """Proportion of examples in which only the last item is masked, as in next-item prediction; the authors make one such copy of
    an example beside ten with random masks."""
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
    """Item table and item biases."""

    item_bias: Tensor
    """``[I]``."""


class BERT4Rec(Recommender[HistoryQuery, BERT4RecConfig, BERT4RecEncoded], Attends, ReadsHistories):
    """A bidirectional Transformer trained to fill in masked items; the next item is predicted at a mask after the history.

    Layers, head and loss are those of the released code. Deviations: positions are counted from the newest one, so that they mean
    the same for any history length (the code counts from the oldest); masks are redrawn in every epoch, where the code draws eleven
    copies beforehand; the mask token and the padding are not classes of the softmax; there are no token-type embeddings, of which
    the code uses only one. The optimiser is the trainer's, without warm-up or linear decay.
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
        """Maximum history length."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> BERT4RecEncoded:
        """Return the item table, shared by input and output, and the item biases."""
        return BERT4RecEncoded({"item": graph.gather("item", self.items)}, graph.gather("item", self.bias))

    def score(self, encoded: BERT4RecEncoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Return the logits of equation 7 at a mask after the history, without the softmax's constant."""

        def encode_masked(rows: Tensor, width: int) -> Tensor:
            tokens, mask = self._with_mask_token(encoded, query.items[rows, -width:], query.mask[rows, -width:])
            states: Tensor = self.transformer(tokens, mask, last_positions(mask))
            return states

        newest = query.mask[:, -self.config.max_length :]
        targets = self.head(encode_by_length(encode_masked, newest))
        return inner_product(targets, F.embedding(candidates, encoded["item"])) + encoded.item_bias[candidates]

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """Return equation 8, the cross-entropy of the original items among all items, over all masked positions of the batch."""
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
        """Return the last layer's attention of the masked position, averaged over heads; it is the same for all items.

        Args:
            encoded: Result of ``encode``.
            query: B histories.
            items: Item rows ``[B]``, one per query.

        Returns:
            ``user:history`` ``[B, L]``, their item rows ``user:history_items`` ``[B, L]`` (-1 for padding) and ``user:hidden``
            ``[B]``, the weight of the masked position itself; together the weights sum to 1.
        """
        longest = self.config.max_length
        rows, mask = query.items[:, -longest:], query.mask[:, -longest:]
        weights = self.transformer.weights(*self._with_mask_token(encoded, rows, mask))[:, :, -1].mean(1)
        return {
            "user:history": weights[:, :-1],
            "user:history_items": rows.masked_fill(~mask, -1),
            "user:hidden": weights[:, -1],
        }

    def _with_mask_token(self, encoded: BERT4RecEncoded, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Append the mask token to histories ``[b, L]``: tokens ``[b, L + 1, d]`` and mask ``[b, L + 1]``."""
        hidden = self.hidden.expand(len(items), 1, -1)
        return torch.cat([F.embedding(items, encoded["item"]), hidden], 1), F.pad(mask, (0, 1), value=True)
