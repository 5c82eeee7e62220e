"""User-dependent attention over modalities."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.additive import additive_logits
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.masked import hide_missing, masked_softmax

CELLS = 2**21
"""Maximum number of elements held for a chunk of pairs: 8 MB."""

CACHED = 2**18
"""The same for vector weights on a CPU without gradients: 1 MB, so that the many passes over a chunk hit the cache."""


class ModalityAwareFusion(nn.Module):
    r"""User-dependent weighting of an item's modalities, by a softmax over the modalities of every pair.

    .. math::
        \mathbf{z}_{ij} = \sum_m \alpha_{ij}^m \mathbf{x}_j^m, \qquad \alpha_{ij}^m = \mathrm{softmax}_m (l_{ij}^m), \qquad
        l_{ij}^m = \mathbf{w}^\top \tanh(\mathbf{W}_q \mathbf{u}_i + \mathbf{W}_k \mathbf{x}_j^m + \mathbf{b})

    or, with products, :math:`l_{ij}^m = \langle \mathbf{W}_q \mathbf{u}_i, \mathbf{W}_k \mathbf{x}_j^m \rangle / \sqrt{D}`. With
    vector weights every dimension has its own softmax: a matrix replaces :math:`\mathbf{w}`, and the terms of the inner product are
    not summed. A reconstruction of the attention of MARIO (Kim et al., CIKM 2022), of which we know summaries but no equation.

    Args:
        dim: Width of tokens and queries.
        attention: Form of the logits.
        granularity: One weight per modality, or per modality and dimension.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., D]``; leading axes are broadcast
        - **output:** ``[..., D]``; zeros for a row without tokens. Weights ``[..., M]``, or ``[..., M, D]``
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: Literal["additive", "dot"] = "additive",
        granularity: Literal["scalar", "vector"] = "scalar",
    ) -> None:
        super().__init__()
        if attention not in ("additive", "dot") or granularity not in ("scalar", "vector"):
            raise UsageError(
                "attention must be 'additive' or 'dot' and granularity 'scalar' or 'vector', "
                f"but they are {attention!r} and {granularity!r}"
            )
        self.granularity = granularity
        self.query = nn.Linear(dim, dim, bias=attention == "additive")
        self.key = nn.Linear(dim, dim, bias=False)
        self.logit = nn.Linear(dim, 1 if granularity == "scalar" else dim, bias=False) if attention == "additive" else None

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens of every item for its query.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("modality-aware fusion needs a query; pass one vector for every row of tokens")
        tokens = hide_missing(tokens, mask)
        logits = self._logits(self.query(query).unsqueeze(-2), self.key(tokens))
        weights = masked_softmax(logits, None if mask is None else mask.unsqueeze(-1), dim=-2)  # [..., M, 1 or D]
        fused = (weights * tokens).sum(-2)
        return (fused, weights.squeeze(-1) if self.granularity == "scalar" else weights) if return_weights else fused

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        if self.logit is not None:
            logits: Tensor = self.logit(torch.tanh(query + key))
            return logits
        products = query * key
        return products if self.granularity == "vector" else products.sum(-1, keepdim=True) / key.shape[-1] ** 0.5

    def score(self, query: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Compute the inner products of all queries with all items fused for them.

        Equivalent to ``forward`` on all pairs, but in chunks of items, so that no ``[B, C, D]`` is held. With scalar weights it is
        :math:`\sum_m \alpha^m \langle \mathbf{u}, \mathbf{x}^m \rangle`: a block of scores and a block of logits per modality. With
        gradients, each chunk is recomputed in the backward pass.

        Args:
            query: ``[B, D]``.
            tokens: ``[C, M, D]``.
            mask: ``[C, M]``.

        Returns:
            ``[B, C]``.
        """
        tokens = hide_missing(tokens, mask)
        if mask is not None and bool(mask.all()):
            mask = None
        blocks = self.granularity == "scalar" and not torch.is_grad_enabled()
        score = self._score_block if blocks else self._score_pairs
        cells = query.shape[0] * tokens.shape[1] * (1 if blocks else tokens.shape[2])  # per candidate
        room = CELLS if blocks or torch.is_grad_enabled() or query.device.type != "cpu" else CACHED
        return in_chunks(
            lambda part: score(query, tokens[part], None if mask is None else mask[part]), len(tokens), block_rows(room, cells)
        )

    def seen(self, query: Tensor, tokens: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Fuse some items for each query.

        Args:
            query: ``[B, D]``.
            tokens: ``[I, M, D]``.
            mask: ``[I, M]``.
            rows: Rows of the items of each query ``[B, C]``.

        Returns:
            ``[B, C, D]``.
        """
        taken = F.embedding(rows, tokens.flatten(1)).unflatten(-1, tokens.shape[1:])
        fused: Tensor = self(taken, mask[rows], query.unsqueeze(1))
        return fused

    def score_rows(self, query: Tensor, tokens: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Compute :meth:`score` for some rows of items: ``[C]``, shared by all queries, or ``[B, C]``, separate for each."""
        if rows.dim() == 1:
            return self.score(query, tokens.index_select(0, rows), mask[rows])

        def score(part: slice) -> Tensor:
            return (self.seen(query, tokens, mask, rows[:, part]) @ query.unsqueeze(-1)).squeeze(-1)

        return in_chunks(score, rows.shape[1], block_rows(CELLS, len(query) * tokens[0].numel()))

    def _score_pairs(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        fused: Tensor = self(tokens, mask, query.unsqueeze(1))  # [B, c, D]
        return (fused @ query.unsqueeze(-1)).squeeze(-1)

    def _score_block(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        flat = tokens.transpose(0, 1)  # [M, c, D]
        queries, keys = self.query(query), self.key(flat)
        if self.logit is None:
            logits = queries @ keys.mT / keys.shape[-1] ** 0.5  # [M, B, c]
        else:
            logits = torch.stack([additive_logits(queries, key, self.logit.weight[0]) for key in keys])
        weights = masked_softmax(logits, None if mask is None else mask.t().unsqueeze(1), dim=0)
        return (weights * (query @ flat.mT)).sum(0)
