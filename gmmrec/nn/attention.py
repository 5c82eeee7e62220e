"""Multi-head attention of queries over tokens of which some are missing; where all are, the result is zeros and never NaN."""

import math
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.dropout import drop
from gmmrec.nn.masked import hide_missing, masked_softmax


@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = ...,
    *,
    bias: Tensor | None = ...,
    num_heads: int = ...,
    dropout: float = ...,
) -> Tensor: ...
@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = ...,
    *,
    bias: Tensor | None = ...,
    num_heads: int = ...,
    dropout: float = ...,
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    num_heads: int = 1,
    dropout: float = 0.0,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(\mathbf{Q} \mathbf{K}^\top / \sqrt{d}) \mathbf{V}` in every head.

    Source: Vaswani et al., 2017, section 3.2. Where weights are neither asked for nor dropped, torch's fused kernel computes the
    same in half the time.

    Args:
        query: What looks.
        key: What is looked at.
        value: What is seen there. Projected from hidden tokens (:func:`~gmmrec.nn.masked.hide_missing`), because 0 times NaN is
            NaN.
        mask: Boolean, True where a query may look; ``mask.unsqueeze(-2)`` of a mask of tokens. None: everywhere.
        bias: Added to the logits of every head: what is known beforehand of who should look where. None: nothing.
        num_heads: H.
        dropout: Share of the weights that is dropped.
        return_weights: Whether the weights, before dropout, are returned too.

    Shapes:
        - **input:** query ``[..., P, H d]``, key ``[..., T, H d]``, value ``[..., T, H e]``, mask ``[..., P or 1, T]``, bias
          ``[..., P or 1, T]``; leading axes are broadcast
        - **output:** ``[..., P, H e]``; zeros where a query may look nowhere. Weights ``[..., H, P, T]``

    >>> value = torch.tensor([[2.0], [4.0], [9.0]])
    >>> attend(torch.zeros(1, 1), torch.zeros(3, 1), value, torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(-2, -3) for x in (query, key, value))  # [..., H, tokens, d]
    if mask is not None:
        mask = mask.unsqueeze(-3)  # the same for all heads
    bias = None if bias is None else bias.unsqueeze(-3)
    if return_weights:
        logits = query @ key.mT / query.shape[-1] ** 0.5
        weights = masked_softmax(logits if bias is None else logits + bias, mask)
        seen = drop(weights, dropout) @ value
        return _joined(seen), weights
    if mask is None:
        return _joined(_fused(query, key, value, bias, dropout))
    somewhere = mask.any(-1, keepdim=True)  # what the kernels make of rows that may look nowhere is not defined
    allowed = mask | ~somewhere
    seen = _fused(query, key, value, allowed if bias is None else bias.masked_fill(~allowed, -math.inf), dropout)
    return _joined(seen.masked_fill(~somewhere, 0.0))


class MultiHeadAttention(nn.Module):
    r"""Attention between projections of queries and of tokens.

    .. math:: \mathrm{MHA}(\mathbf{Q}, \mathbf{X}) = \mathrm{A}(\mathbf{Q W}_Q, \mathbf{X W}_K, \mathbf{X W}_V) \, \mathbf{W}_O

    Source: Vaswani et al., 2017, section 3.2.2, with biases as in BERT.

    Args:
        dim: Width of queries and of the result.
        num_heads: H.
        token_dim: Width of the tokens; None for ``dim``.
        width: Width of all heads together; None for ``dim``.
        dropout: Share of the weights that is dropped in training.

    Shapes:
        - **input:** queries ``[..., P, dim]``, tokens ``[..., T, token_dim]``, mask ``[..., P or 1, T]``; values
          ``[..., T, token_dim]`` where what is seen differs from what is looked at; bias ``[..., P or 1, T]`` of the logits. Tokens
          that no query may read must be hidden already
        - **output:** ``[..., P, dim]``; where a query may look nowhere, the bias. Weights ``[..., H, P, T]``
    """

    def __init__(
        self, dim: int, num_heads: int, *, token_dim: int | None = None, width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        width, token_dim = width or dim, token_dim or dim
        check_heads(width, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.output = nn.Linear(dim, width), nn.Linear(width, dim)
        self.key, self.value = (nn.Linear(token_dim, width) for _ in range(2))

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        values: Tensor | None = None,
        bias: Tensor | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What every query sees, and the weights or None."""
        dropout = self.dropout if self.training else 0.0
        parts = self.query(queries), self.key(tokens), self.value(tokens if values is None else values), mask
        if not return_weights:
            return self.output(attend(*parts, bias=bias, num_heads=self.num_heads, dropout=dropout)), None
        seen, weights = attend(*parts, bias=bias, num_heads=self.num_heads, dropout=dropout, return_weights=True)
        return self.output(seen), weights


def rows_of(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Weights ``[..., P, T]`` or ``[..., H, P, T]`` with zeros in the rows of queries that are missing by ``mask`` ``[..., P]``.

    >>> import torch
    >>> rows_of(torch.ones(2, 2), torch.tensor([True, False]))
    tensor([[1., 1.],
            [0., 0.]])
    """
    if mask is None:
        return weights
    return hide_missing(weights, mask if weights.dim() == mask.dim() + 1 else mask.unsqueeze(-2))


def check_heads(width: int, num_heads: int) -> None:
    """Raises a ValueError where the heads cannot share the width equally."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"num_heads must divide the width {width}, but is {num_heads}")


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """The kernels are fast over a single leading axis alone: all are made one. The mask is boolean, or added to the logits."""
    lead = torch.broadcast_shapes(*(x.shape[:-3] for x in (query, key, value)), () if mask is None else mask.shape[:-3])

    def flat(x: Tensor) -> Tensor:
        return x.expand(*lead, *x.shape[-3:]).reshape(math.prod(lead), *x.shape[-3:])

    query, key, value = flat(query), flat(key), flat(value)
    masks = None if mask is None else flat(mask)
    seen: Tensor
    if dropout and query.device.type == "cpu":  # no kernel there drops weights, and torch's own way around is slower than this
        seen = drop(_logits(query, key, masks).softmax(-1), dropout) @ value
    else:
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=masks, dropout_p=dropout)
    return seen.reshape(*lead, *seen.shape[-3:])


def _logits(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled products ``[..., P, T]``; the mask as in :func:`_fused`."""
    logits: Tensor = (query / query.shape[-1] ** 0.5) @ key.mT
    if mask is None:
        return logits
    return logits.masked_fill_(~mask, -math.inf) if mask.dtype is torch.bool else logits.add_(mask)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(-2, -3).flatten(-2)
