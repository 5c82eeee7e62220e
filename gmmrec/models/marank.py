"""MARank: Multi-Order Attentive Ranking Model for Sequential Recommendation.

L. Yu, C. Zhang, S. Liang, X. Zhang. AAAI 2019. https://doi.org/10.1609/aaai.v33i01.33015709
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import Attends, ReadsHistories
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.sequence.multi_order import MultiOrderAttention, OrderWeights, ResidualTower, draw
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.next_item import HistoryConfig
from gmmrec.tasks.query import Batch, HistoryQuery
from gmmrec.typing import ITEM, USER


@dataclass(frozen=True)
class MARankConfig(HistoryConfig):
    """Settings of MARank; defaults are those of the released code."""

    max_length: int = 6
    """Longest history in items, L: the newest are kept, and shorter histories are padded with copies of their newest item."""
    dim: int = 64
    """Embedding width."""
    orders: int = 2
    """Number of attention orders beyond the items themselves, K."""
    num_layers: int = 2
    """Number of layers of the residual MLP behind the attention, P."""
    attention: Literal["multi_order", "mean"] = "multi_order"
    """Weighting of items and orders; ``mean`` weighs all of them uniformly."""
    shortcut: bool = True
    """Add the newest item to the order-zero output, that of the items themselves."""
    long_term: bool = True
    """Add the inner product of the user with a second item table to the score."""
    dropout: float = 0.5
    """Dropout probability of the input of every linear map."""
    l2: float = 5e-4
    """Weight of the squared L2 norms of the user and candidate embeddings and of the history representation."""
    init_std: float = 0.01
    """Standard deviation of the initial embeddings and matrices; biases and logit vectors are drawn from N(0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(dim=self.dim, init_std=self.init_std)
        check_non_negative(orders=self.orders, num_layers=self.num_layers, l2=self.l2)
        check_literals(self)
        check_probability(dropout=self.dropout)


class MARank(Recommender[HistoryQuery, MARankConfig], Attends, ReadsHistories):
    """Sequential recommender that adds long-term preference to multi-order attention over the last few items.

    Items have two tables: ``items`` is scored against the user (long term); ``context_items`` embeds histories and is scored
    against their representation (short term). Written after the released code; the text of the paper was not available.
    Deviations: dropout is off in evaluation (in the code it never is); one optimizer minimises the batch mean of the loss for all
    weights, where the code has two, on the sum for embeddings and on the sum divided by batch size and L for matrices.
    """

    def __init__(self, schema: GraphSchema, config: MARankConfig = MARankConfig()) -> None:
        super().__init__(schema, config)
        c, num_items = config, schema.num_nodes[ITEM]
        self.users = embedding_table(schema.num_nodes[USER], c.dim, c.init_std)
        self.items = embedding_table(num_items, c.dim, c.init_std) if c.long_term else None
        self.context_items = embedding_table(num_items, c.dim, c.init_std)
        self.read = MultiOrderAttention(
            c.dim,
            c.orders,
            dropout=c.dropout,
            shortcut="last" if c.shortcut else None,
            attention=c.attention,
            init_std=c.init_std,
        )
        self.mix = ResidualTower(c.dim, c.num_layers, dropout=c.dropout)
        draw(self.mix, c.init_std)

    @property
    def history_length(self) -> int:
        """Longest history."""
        return self.config.max_length

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return the tables: users ``[U, d]``, items ``[I, 2 d]`` with the long-term half first, or ``[I, d]`` without it."""
        context = graph.gather(ITEM, self.context_items)
        items = context if self.items is None else torch.cat([graph.gather(ITEM, self.items), context], dim=1)
        return Encoded({USER: graph.gather(USER, self.users), ITEM: items})

    def score(self, encoded: Encoded, query: HistoryQuery, candidates: Tensor) -> Tensor:
        """Compute ``u . Q[i] + n . E[i]`` as one product of ``[u ; n]`` with ``[Q ; E]``."""
        user = F.embedding(query.user, encoded[USER])
        read, _ = self._read(user, encoded[ITEM][:, -self.config.dim :], query)
        state = self._short_term(read, self.mix(read), query)
        if self.items is not None:
            state = torch.cat([user, state], dim=1)
        return inner_product(state, F.embedding(candidates, encoded[ITEM]))

    def loss(self, graph: MultimodalGraph, batch: Batch[HistoryQuery]) -> dict[str, Tensor]:
        """BPR, and the squared L2 norms of user, candidates, h and the MLP output; history items are not regularised."""
        user = F.embedding(batch.query.user, graph.gather(USER, self.users))
        context = graph.gather(ITEM, self.context_items)
        read, _ = self._read(user, context, batch.query)
        mixed = self.mix(read)
        candidates = [F.embedding(batch.candidates, context)]
        scores = inner_product(self._short_term(read, mixed, batch.query), candidates[0])
        if self.items is not None:
            candidates.append(F.embedding(batch.candidates, graph.gather(ITEM, self.items)))
            scores = scores + inner_product(user, candidates[1])
        norm = 2 * embedding_norm(user, *candidates, read, mixed)  # the full squared L2 norms; embedding_norm halves them
        return {"bpr": bpr(scores[:, :1], scores[:, 1:]), "l2": self.config.l2 * norm}

    def attention(self, encoded: Encoded, query: HistoryQuery, items: Tensor) -> dict[str, Tensor]:
        """Return the weight of every history item ``[B, L]``, the same for all ``items``.

        Weights are summed over all orders; those of the copies that pad a short history count for the newest item itself.
        ``user:history_items`` holds the rows, -1 for padding. The shortcut of the newest item is not counted.
        """
        user = F.embedding(query.user, encoded[USER])
        _, weights = self._read(user, encoded[ITEM][:, -self.config.dim :], query)
        rows, mask = recent(query.items, query.mask, self.config.max_length)
        copies = weights.shares.masked_fill(mask, 0.0).sum(1, keepdim=True)
        shares = weights.shares.masked_fill(~mask, 0.0)
        shares = torch.cat([shares[:, :-1], shares[:, -1:] + copies], dim=1).masked_fill(~mask, 0.0)
        return {"user:history": shares, "user:history_items": rows.masked_fill(~mask, -1)}

    def _read(self, user: Tensor, table: Tensor, query: HistoryQuery) -> tuple[Tensor, OrderWeights]:
        """History representation h ``[B, d]`` and attention weights; short histories are padded."""
        rows, _ = recent(query.items, query.mask, self.config.max_length)
        read, weights = self.read(F.embedding(rows, table), None, user, return_weights=True)
        return read, weights

    def _short_term(self, read: Tensor, mixed: Tensor, query: HistoryQuery) -> Tensor:
        """Short-term vector n ``[B, d]``; zeros for an empty history, so that only the long-term score remains."""
        return (mixed + read).masked_fill(~query.mask.any(1, keepdim=True), 0.0)


def recent(items: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the last ``length`` items ``[B, length]`` and the mask of real ones; short histories are padded with the newest item.

    >>> recent(torch.tensor([[0, 7, 8]]), torch.tensor([[False, True, True]]), 4)
    (tensor([[8, 8, 7, 8]]), tensor([[False, False,  True,  True]]))
    """
    items, mask = items[:, -length:], mask[:, -length:]
    missing = length - items.shape[1]
    items, mask = F.pad(items, (missing, 0)), F.pad(mask, (missing, 0))
    return torch.where(mask, items, items[:, -1:]), mask
