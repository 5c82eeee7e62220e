"""Cross-modal attention between two streams of tokens, each of which takes its values from the other."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.attention import attend
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing, masked_mean


class CrossModalWeights(NamedTuple):
    """Attention weights of every layer, queries before keys; each row sums to 1 over the keys."""

    left_cross: Tensor
    """Left queries, right keys: ``[..., L, H, P, T]``."""
    left_self: Tensor
    """``[..., L, H, P, P]``."""
    right_cross: Tensor
    """``[..., L, H, T, P]``."""
    right_self: Tensor
    """``[..., L, H, T, T]``."""


class CrossModalFusion(nn.Module):
    r"""Cross-modal layers of CMBF (Chen et al., Sensors 2021, 21(16), 5275), https://doi.org/10.3390/s21165275.

    In every layer both streams read the other's *input* to that layer. For the left stream :math:`\mathbf{X}` and the right stream
    :math:`\mathbf{Y}`, with multi-head attention :math:`\mathrm{A}` of queries, keys and values, without an output projection:

    .. math::
        \mathbf{C} = \mathrm{A}(\mathbf{X}, \mathbf{Y}, \mathbf{Y}), \qquad
        \mathbf{E} = \mathrm{LN}(\mathbf{C} + \mathrm{A}(\mathbf{C}, \mathbf{C}, \mathbf{C})), \qquad
        \mathbf{X}' = \mathrm{LN}(\mathbf{E} + \mathbf{W}_2 \, \mathrm{ReLU}(\mathbf{W}_1 \mathbf{E}))

    All values come from the other stream: if that is a single token, it is all that a stream can read. A reconstruction: we do not
    know the paper's formulas; the order of the blocks and the missing residual around the cross-attention follow the description of
    a published industrial implementation. Our choice for an empty other side: a stream keeps its own tokens, mapped as its queries.

    Not in ``FUSIONS``, because it has two sides. :class:`ScalarTokens` expands a single vector into tokens.

    Args:
        left_dim: Width of left tokens.
        right_dim: Width of right tokens.
        heads: Number of heads H of both streams.
        left_head_dim: Head width of the left stream, which is ``heads * left_head_dim`` wide from the first layer on.
        right_head_dim: Head width of the right stream, likewise.
        num_layers: Number of layers L; 0 pools the input.
        ffn_mult: Width of a feed-forward layer as a multiple of its stream's width.
        dropout: Dropout probability of the residual branches (self-attention and feed-forward).
        attention_dropout: Dropout probability of attention weights.
        residual: Whether to add a stream's own tokens, mapped as its queries, to what it reads.
        left_groups: Sizes of consecutive groups of left tokens, each of which is averaged: ``(1, 1, 5)`` keeps two fields as they
            are and averages a text of five words. None for one group.
        right_groups: Sizes of the groups of right tokens, likewise.

    Shapes:
        - **input:** left ``[..., P, left_dim]``, right ``[..., T, right_dim]``, masks ``[..., P]`` and ``[..., T]``. Leading axes
          are broadcast: ``[1, C, P, ...]`` and ``[B, C, T, ...]`` give pairs, and the left tokens are projected once for all B
        - **output:** ``[..., out_dim]``, the pooled groups of the left, then of the right stream; zeros for a group without tokens.
          Weights are :class:`CrossModalWeights`

    >>> fusion = CrossModalFusion(6, 4, right_groups=(1, 1, 5))
    >>> fusion(torch.randn(2, 9, 6), torch.randn(2, 7, 4)).shape, fusion.out_dim
    (torch.Size([2, 64]), 64)
    """

    def __init__(
        self,
        left_dim: int,
        right_dim: int,
        *,
        heads: int = 2,
        left_head_dim: int = 8,
        right_head_dim: int = 8,
        num_layers: int = 1,
        ffn_mult: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        residual: bool = False,
        left_groups: Sequence[int] | None = None,
        right_groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.left_groups, self.right_groups = left_groups, right_groups
        self.left, self.right = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_layers):
            for streams, dims, head_dim in (
                (self.left, (left_dim, right_dim), left_head_dim),
                (self.right, (right_dim, left_dim), right_head_dim),
            ):
                streams.append(_Stream(*dims, heads, head_dim, ffn_mult, dropout, attention_dropout, residual))
            left_dim, right_dim = heads * left_head_dim, heads * right_head_dim
        self.out_dim: int = len(left_groups or (1,)) * left_dim + len(right_groups or (1,)) * right_dim
        """Output width."""

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        left_mask: Tensor | None = None,
        right_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, CrossModalWeights]:
        """Pool both streams and concatenate them.

        Raises:
            UsageError: The group sizes do not sum to the number of tokens.
        """
        left, right, attention = self._read(left, right, left_mask, right_mask, return_weights)
        pooled = [*pool_groups(left, left_mask, self.left_groups), *pool_groups(right, right_mask, self.right_groups)]
        lead = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        fused = torch.cat([part.expand(*lead, part.shape[-1]) for part in pooled], dim=-1)
        if not return_weights:
            return fused
        if not attention:
            raise UsageError("a fusion with num_layers=0 has no attention weights to return; use at least one layer")
        return fused, CrossModalWeights(*(torch.stack(maps, dim=-4) for maps in zip(*attention, strict=True)))

    def streams(
        self, left: Tensor, right: Tensor, left_mask: Tensor | None = None, right_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens of both streams after the last layer, zeros for missing ones."""
        return self._read(left, right, left_mask, right_mask, False)[:2]

    def _read(
        self, left: Tensor, right: Tensor, left_mask: Tensor | None, right_mask: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        x, y = hide_missing(left, left_mask), hide_missing(right, right_mask)
        attention = []
        for read_left, read_right in zip(self.left, self.right, strict=True):
            new_x, left_weights = read_left(x, y, left_mask, right_mask, return_weights)
            new_y, right_weights = read_right(y, x, right_mask, left_mask, return_weights)
            x, y = new_x, new_y  # only now: both read the input of the layer
            attention.append(left_weights + right_weights)
        return hide_missing(x, left_mask), hide_missing(y, right_mask), attention


class ScalarTokens(nn.Module):
    r"""Expansion of a vector into tokens: each component of its projection scales a learned direction.

    .. math:: \mathbf{t}_p = (\mathbf{w}_p^\top \mathbf{x} + b_p) \, \mathbf{m}_p

    Attention over a single token is always 1, but not over these. Vectors that are tokens already (the regions of an image) can use
    the same maps and keep their number: :meth:`together` sums the tokens of each vector. Part of CMBF.

    Args:
        in_dim: Width of the vector; None for vectors that are already projected to P components.
        num_tokens: Number of tokens P.
        dim: Token width.

    Shapes:
        - **input:** ``[..., in_dim]``
        - **output:** ``[..., P, dim]``
    """

    def __init__(self, in_dim: int | None, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.scale = nn.Identity() if in_dim is None else nn.Linear(in_dim, num_tokens)
        self.directions = nn.Parameter(nn.init.normal_(torch.empty(num_tokens, dim), std=dim**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Expand every vector into tokens."""
        scale: Tensor = self.scale(x)
        return scale.unsqueeze(-1) * self.directions

    def together(self, x: Tensor) -> Tensor:
        """Sum the tokens of every vector ``[..., dim]``, a linear map of rank at most P."""
        scale: Tensor = self.scale(x)
        return scale @ self.directions


class _Attention(nn.Module):
    """Multi-head attention without biases and without an output projection."""

    def __init__(self, query_dim: int, key_dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(query_dim, heads * head_dim, bias=False)
        self.key, self.value = (nn.Linear(key_dim, heads * head_dim, bias=False) for _ in range(2))

    def forward(self, tokens: Tensor, other: Tensor, mask: Tensor | None, weights: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return messages ``[..., P, H d]`` and queries; weights ``[..., H, P, T]`` are appended to the list, if any."""
        queries, mask = self.query(tokens), None if mask is None else mask.unsqueeze(-2)
        parts, dropout = (queries, self.key(other), self.value(other), mask), self.dropout if self.training else 0.0
        if weights is None:
            return attend(*parts, num_heads=self.heads, dropout=dropout), queries
        messages, attention = attend(*parts, num_heads=self.heads, dropout=dropout, return_weights=True)
        weights.append(attention)
        return messages, queries


class _Stream(nn.Module):
    """One stream of a layer."""

    def __init__(
        self,
        in_dim: int,
        other_dim: int,
        heads: int,
        head_dim: int,
        ffn_mult: int,
        dropout: float,
        attention_dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        dim = heads * head_dim
        self.residual = residual
        self.cross = _Attention(in_dim, other_dim, heads, head_dim, attention_dropout)
        self.own = _Attention(dim, dim, heads, head_dim, attention_dropout)
        self.norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_mult * dim), nn.ReLU(inplace=True), nn.Linear(ffn_mult * dim, dim))
        self.dropout = Dropout(dropout)

    def forward(
        self, tokens: Tensor, other: Tensor, mask: Tensor | None, other_mask: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the stream's new tokens, and on request the weights of both attentions."""
        weights: list[Tensor] = []
        collected = weights if return_weights else None
        context, queries = self.cross(tokens, other, other_mask, collected)
        if self.residual:
            context = context + queries
        elif other_mask is not None:  # where the other side is empty
            context = context + queries.masked_fill(other_mask.any(-1)[..., None, None], 0.0)
        mixed = self.norm(context + self.dropout(self.own(context, context, mask, collected)[0]))
        return self.ffn_norm(mixed + self.dropout(self.ffn(mixed))), weights


def pool_groups(tokens: Tensor, mask: Tensor | None, groups: Sequence[int] | None) -> list[Tensor]:
    """Average consecutive groups of tokens, from ``[..., T, D]`` to ``[..., D]`` each; ``groups`` None is one group.

    Raises:
        UsageError: The group sizes do not sum to the number of tokens.

    >>> torch.cat(pool_groups(torch.tensor([[5.0], [1.0], [3.0]]), None, (1, 2)))
    tensor([5., 2.])
    """
    if groups is None:
        return [masked_mean(tokens, mask)]
    if sum(groups) != tokens.shape[-2]:
        raise UsageError(f"groups {tuple(groups)} cover {sum(groups)} tokens, but there are {tokens.shape[-2]}; they must match")
    masks = [None] * len(groups) if mask is None else mask.split(list(groups), dim=-1)
    return [masked_mean(part, present) for part, present in zip(tokens.split(list(groups), dim=-2), masks, strict=True)]
