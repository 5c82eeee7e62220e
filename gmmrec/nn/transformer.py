"""The Transformer's encoder over tokens of which some are missing."""

from torch import Tensor, nn

from gmmrec.nn.attention import MultiHeadAttention
from gmmrec.nn.masked import hide_missing


class TransformerEncoder(nn.Module):
    r"""Layers in which every token attends to all tokens, itself included; normalised after each step, without positions.

    .. math::
        \mathbf{S} = \mathrm{LN}(\mathbf{X} + \mathrm{MHA}(\mathbf{X}, \mathbf{X}, \mathbf{X})), \qquad
        \mathbf{X}' = \mathrm{LN}(\mathbf{S} + \mathbf{W}_2 \, \mathrm{GELU}(\mathbf{W}_1 \mathbf{S}))

    Source: Vaswani et al., 2017, section 3.1, with the activation of BERT.

    Args:
        dim: Width of a token.
        num_layers: Number of layers; 0 leaves the tokens as they are.
        num_heads: Heads of the attention.
        ffn_mult: Width of a feed-forward layer, in widths of a token.
        dropout: Share of what attention and the feed-forward layer add that is dropped in training.

    Shapes:
        - **input:** tokens ``[..., T, dim]``, mask ``[..., T]`` or None
        - **output:** ``[..., T, dim]``; zeros in place of missing tokens

    >>> import torch
    >>> TransformerEncoder(8, num_layers=2)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, dim: int, *, num_layers: int = 1, num_heads: int = 2, ffn_mult: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(dim, num_heads, ffn_mult * dim, dropout) for _ in range(num_layers))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """What every token becomes among the others."""
        tokens = hide_missing(tokens, mask)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return hide_missing(tokens, mask)


class _Layer(nn.Module):
    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads)
        self.norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        heard, _ = self.attention(tokens, tokens, None if mask is None else mask.unsqueeze(-2))
        mixed = self.norm(tokens + self.dropout(heard))
        made: Tensor = self.ffn_norm(mixed + self.dropout(self.ffn(mixed)))
        return made
