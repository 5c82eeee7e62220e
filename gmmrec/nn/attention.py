"""Multi-head attention over tokens, some of which may be missing; where all are missing, the result is zero, never NaN."""

import math
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
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

    Source: Vaswani et al., 2017, section 3.2. Unless weights are returned or dropped, torch's fused kernel computes the same result
    in half the time.

    Args:
        query: Queries.
        key: Keys.
        value: Values. Project them from tokens whose missing rows are hidden (:func:`~gmmrec.nn.masked.hide_missing`), because 0
            times NaN is NaN.
        mask: Boolean, True where a query may attend; ``mask.unsqueeze(-2)`` for a mask of tokens. None: everywhere.
        bias: Prior added to the logits of every head. None: no prior.
        num_heads: H.
        dropout: Dropout probability of the weights.
        return_weights: Whether to return the weights, before dropout, as well.

    Shapes:
        - **input:** query ``[..., P, H d]``, key ``[..., T, H d]``, value ``[..., T, H e]``, mask ``[..., P or 1, T]``, bias
          ``[..., P or 1, T]``; leading axes are broadcast
        - **output:** ``[..., P, H e]``; zeros for a query that may attend to nothing. Weights ``[..., H, P, T]``

    >>> value = torch.tensor([[2.0], [4.0], [9.0]])
    >>> attend(torch.zeros(1, 1), torch.zeros(3, 1), value, torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(-2, -3) for x in (query, key, value))  # [..., H, tokens, d]
    if mask is not None:
        mask = mask.unsqueeze(-3)  # shared by all heads
    bias = None if bias is None else bias.unsqueeze(-3)
    if return_weights:
        logits = query @ key.mT / query.shape[-1] ** 0.5
        weights = masked_softmax(logits if bias is None else logits + bias, mask)
        heads = drop(weights, dropout) @ value
        return _joined(heads), weights
    if mask is None:
        return _joined(_fused(query, key, value, bias, dropout))
    has_tokens = mask.any(-1, keepdim=True)  # the kernels leave fully masked rows undefined
    allowed = mask | ~has_tokens
    heads = _fused(query, key, value, allowed if bias is None else bias.masked_fill(~allowed, -math.inf), dropout)
    return _joined(heads.masked_fill(~has_tokens, 0.0))


class MultiHeadAttention(nn.Module):
    r"""Attention between projected queries and projected tokens.

    .. math:: \mathrm{MHA}(\mathbf{Q}, \mathbf{X}) = \mathrm{A}(\mathbf{Q W}_Q, \mathbf{X W}_K, \mathbf{X W}_V) \, \mathbf{W}_O

    Source: Vaswani et al., 2017, section 3.2.2, with biases as in BERT.

    Args:
        dim: Width of the queries and the output.
        num_heads: H.
        token_dim: Width of the tokens; None for ``dim``.
        width: Total width of all heads; None for ``dim``.
        dropout: Dropout probability of the weights.

    Shapes:
        - **input:** queries ``[..., P, dim]``, tokens ``[..., T, token_dim]``, mask ``[..., P or 1, T]``; values
          ``[..., T, token_dim]`` if they differ from the tokens that make the keys; bias ``[..., P or 1, T]`` of the logits. Tokens
          that no query may read must already be hidden
        - **output:** ``[..., P, dim]``; the output bias for a query that may attend to nothing. Weights ``[..., H, P, T]``
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
        """Return the output for every query, and the weights or None."""
        dropout = self.dropout if self.training else 0.0
        parts = self.query(queries), self.key(tokens), self.value(tokens if values is None else values), mask
        if not return_weights:
            return self.output(attend(*parts, bias=bias, num_heads=self.num_heads, dropout=dropout)), None
        heads, weights = attend(*parts, bias=bias, num_heads=self.num_heads, dropout=dropout, return_weights=True)
        return self.output(heads), weights


def rows_of(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the rows of weights ``[..., P, T]`` or ``[..., H, P, T]`` whose queries are missing in ``mask`` ``[..., P]``.

    >>> import torch
    >>> rows_of(torch.ones(2, 2), torch.tensor([True, False]))
    tensor([[1., 1.],
            [0., 0.]])
    """
    if mask is None:
        return weights
    return hide_missing(weights, mask if weights.dim() == mask.dim() + 1 else mask.unsqueeze(-2))


def check_heads(width: int, num_heads: int) -> None:
    """Raise a UsageError unless the number of heads divides the width."""
    if num_heads < 1 or width % num_heads:
        raise UsageError(f"num_heads must divide the width {width}, but is {num_heads}")


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Attend with leading axes flattened into one, as the kernels need to be fast. The mask is boolean or added to the logits."""
    lead = torch.broadcast_shapes(*(x.shape[:-3] for x in (query, key, value)), () if mask is None else mask.shape[:-3])

    def flat(x: Tensor) -> Tensor:
        return x.expand(*lead, *x.shape[-3:]).reshape(math.prod(lead), *x.shape[-3:])

    query, key, value = flat(query), flat(key), flat(value)
    masks = None if mask is None else flat(mask)
    heads: Tensor
    if dropout and query.device.type == "cpu":  # no CPU kernel drops weights, and torch's fallback is slower than this
        heads = drop(_logits(query, key, masks).softmax(-1), dropout) @ value
    else:
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=masks, dropout_p=dropout)
    return heads.reshape(*lead, *heads.shape[-3:])


def _logits(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled logits ``[..., P, T]``; the mask as in :func:`_fused`."""
    logits: Tensor = (query / query.shape[-1] ** 0.5) @ key.mT
    if mask is None:
        return logits
    return logits.masked_fill_(~mask, -math.inf) if mask.dtype is torch.bool else logits.add_(mask)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(-2, -3).flatten(-2)
