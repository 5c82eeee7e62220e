"""Transformer encoder over tokens, some of which may be missing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.attention import MultiHeadAttention
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing


class TransformerEncoder(nn.Module):
    r"""Stack of post-norm self-attention layers without positions; every token attends to all tokens, itself included.

    .. math::
        \mathbf{S} = \mathrm{LN}(\mathbf{X} + \mathrm{MHA}(\mathbf{X}, \mathbf{X}, \mathbf{X})), \qquad
        \mathbf{X}' = \mathrm{LN}(\mathbf{S} + \mathbf{W}_2 \, \mathrm{GELU}(\mathbf{W}_1 \mathbf{S}))

    Source: Vaswani et al., 2017, section 3.1, with the activation of BERT.

    Args:
        dim: Width of a token.
        num_layers: Number of layers; 0 returns the tokens unchanged.
        num_heads: Number of attention heads.
        ffn_mult: Width of the feed-forward layers as a multiple of ``dim``; 0 for attention only, :math:`\mathbf{X}' = \mathbf{S}`.
        dropout: Dropout probability of the outputs of attention and feed-forward layers.
        attention_dropout: Dropout probability of the attention weights.
        causal: Whether a token attends only to itself and the tokens before it.

    Shapes:
        - **input:** tokens ``[..., T, dim]``, mask ``[..., T]`` or None, positions ``[n]`` or None, bias ``[..., T or 1, T]``
          of the attention logits in all layers and heads, or None
        - **output:** ``[..., T, dim]``; zeros for missing tokens. With positions, ``[n, dim]``: the tokens at these positions
          among all ``... T``, none of them missing; the last layer is computed for them only

    >>> TransformerEncoder(8, num_layers=2)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int = 1,
        num_heads: int = 2,
        ffn_mult: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.layers = nn.ModuleList(
            TransformerLayer(dim, num_heads, ffn_mult * dim, dropout, attention_dropout) for _ in range(num_layers)
        )

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, *, bias: Tensor | None = None
    ) -> Tensor:
        """Encode the tokens."""
        tokens, visible = hide_missing(tokens, mask), visible_mask(tokens, mask, causal=self.causal)
        for number, layer in enumerate(self.layers, 1):
            tokens = layer(tokens, visible, positions=positions if number == len(self.layers) else None, bias=bias)
        if positions is None:
            return hide_missing(tokens, mask)
        return tokens if len(self.layers) else take(tokens, positions)

    def weights(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights of the last layer, ``[..., H, T, T]``."""
        tokens, visible = hide_missing(tokens, mask), visible_mask(tokens, mask, causal=self.causal)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, visible)
        last = self.layers[-1]
        assert isinstance(last, TransformerLayer)
        return last.weights(tokens, visible)


class TransformerLayer(nn.Module):
    """One layer of a :class:`TransformerEncoder`.

    Args:
        dim: Width of a token.
        num_heads: Number of attention heads.
        hidden: Width of the feed-forward layer; 0 for none.
        dropout: Dropout probability of the outputs of attention and feed-forward layers.
        attention_dropout: Dropout probability of the attention weights.

    Shapes:
        - **input:** tokens ``[..., T, dim]``, visible ``[..., T or 1, T]`` (True where the token of the row may attend to that of
          the column) or None, guides ``[..., T, dim]`` that replace the tokens in queries and keys, positions ``[n]`` of the tokens
          to return, bias ``[..., T or 1, T]`` of the attention logits
        - **output:** ``[..., T, dim]``, or ``[n, dim]``
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float = 0.0, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout=attention_dropout)
        self.norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)) if hidden else None
        self.ffn_norm = nn.LayerNorm(dim) if hidden else None
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        visible: Tensor | None = None,
        *,
        guides: Tensor | None = None,
        positions: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Apply the layer to the tokens, or to those at the given positions."""
        guides = tokens if guides is None else guides
        messages, _ = self.attention(guides, guides, visible, values=tokens, bias=bias)
        if positions is not None:
            tokens, messages = take(tokens, positions), take(messages, positions)
        mixed: Tensor = self.norm(tokens + self.dropout(messages))
        if self.ffn is None or self.ffn_norm is None:
            return mixed
        output: Tensor = self.ffn_norm(mixed + self.dropout(self.ffn(mixed)))
        return output

    def weights(self, tokens: Tensor, visible: Tensor | None = None, *, guides: Tensor | None = None) -> Tensor:
        """Return the attention weights ``[..., H, T, T]``."""
        guides = tokens if guides is None else guides
        weights: Tensor = self.attention(guides, guides, visible, values=tokens, return_weights=True)[1]
        return weights


def visible_mask(tokens: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor | None:
    """Return the mask ``[..., T or 1, T]`` of tokens ``[..., T, D]`` that may attend to each other; None without restriction.

    >>> visible_mask(torch.zeros(2, 1), torch.tensor([False, True]), causal=True)
    tensor([[False, False],
            [False,  True]])
    """
    visible = None if mask is None else mask.unsqueeze(-2)
    if not causal:
        return visible
    length = tokens.shape[-2]
    earlier = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    return earlier if visible is None else earlier & visible


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Take the tokens ``[n, D]`` at the given positions among all of ``[..., T, D]``.

    >>> take(torch.arange(6.0).view(2, 3, 1), torch.tensor([1, 5])).flatten()
    tensor([1., 5.])
    """
    return F.embedding(positions, tokens.flatten(0, -2))
