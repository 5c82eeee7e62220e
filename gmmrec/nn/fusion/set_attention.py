"""Self-attention over an unordered set of items, some of which may be hidden for prediction."""

import torch
from torch import Tensor, nn

from gmmrec.nn.attention import MultiHeadAttention, rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing


class SetAttention(nn.Module):
    r"""Transformer encoder without positions: the outfit model (FOM) of POG (Chen et al., KDD 2019).

    .. math::
        \mathbf{H}^0 = \mathrm{LReLU}(\mathbf{X W}_0 + \mathbf{b}_0) \mathbf{W}_1 + \mathbf{b}_1, \qquad
        \mathbf{Z} = \mathrm{LN}(\mathbf{H}^{l-1} + \mathrm{MHA}(\mathbf{H}^{l-1})), \qquad
        \mathbf{H}^l = \mathrm{LN}(\mathbf{Z} + \mathrm{LReLU}(\mathbf{Z W}_a + \mathbf{b}_a) \mathbf{W}_b + \mathbf{b}_b)

    followed by :math:`\mathbf{W}_g \mathbf{H}^L`, which for a hidden item is compared with the vectors of the candidates. A
    reconstruction of https://arxiv.org/abs/1905.01866: the blocks, the learned vector of hidden items and the absence of positions
    are the paper's; the algebra inside the blocks is that of the standard Transformer.

    Unlike a fusion, it takes a mask of hidden items instead of a query and returns a vector per item; their mean fuses the set.

    Args:
        dim: Width of the model.
        num_layers: Number of layers L.
        num_heads: Number of heads H.
        in_dim: Token width; None for ``dim``.
        out_dim: Output width; None for the token width, so that outputs can be compared with tokens.
        hidden: Width of the feed-forward layers; None for 4 times ``dim``.
        transition: Whether to compute :math:`\mathbf{H}^0` with two layers; else with one linear map.
        dropout: Dropout probability of attention weights and residual branches.
        hides: Whether items may be hidden; False omits the learned vector of hidden items.

    Shapes:
        - **input:** tokens ``[..., M, in_dim]``, mask ``[..., M]``, replace ``[..., M]`` (True for present tokens to hide,
          which are not read but replaced by the learned vector)
        - **output:** ``[..., M, out_dim]``; zeros for missing tokens. Weights ``[..., L, H, M, M]``, zeros in the rows of missing
          tokens

    >>> outfit = torch.randn(2, 4, 8)
    >>> out = SetAttention(16, num_layers=2, num_heads=2, in_dim=8)(outfit, replace=torch.tensor([False, True, False, False]))
    >>> (out[:, 1] @ outfit.mT).shape    # scores of the items of both outfits as the second one
    torch.Size([2, 2, 4])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int = 2,
        num_heads: int = 8,
        in_dim: int | None = None,
        out_dim: int | None = None,
        hidden: int | None = None,
        transition: bool = True,
        dropout: float = 0.0,
        hides: bool = True,
    ) -> None:
        super().__init__()
        in_dim = in_dim or dim
        self.unknown = nn.Parameter(nn.init.normal_(torch.empty(in_dim), std=in_dim**-0.5)) if hides else None
        first = [nn.Linear(in_dim, dim), nn.LeakyReLU()] if transition else []
        self.transition = nn.Sequential(*first, nn.Linear(dim if transition else in_dim, dim))
        self.layers = nn.ModuleList(_Layer(dim, num_heads, hidden or 4 * dim, dropout) for _ in range(num_layers))
        self.output = nn.Linear(dim, out_dim or in_dim, bias=False)  # W_g

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, replace: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute an output vector for every token."""
        tokens = hide_missing(tokens, mask)
        if replace is not None:
            assert self.unknown is not None  # requires hides=True
            tokens = torch.where(replace.unsqueeze(-1), self.unknown, tokens)
        hidden, maps = self.transition(tokens), []
        for layer in self.layers:
            hidden, weights = layer(hide_missing(hidden, mask), mask, return_weights)
            maps.append(weights)
        out = hide_missing(self.output(hidden), mask)
        return (out, torch.stack([rows_of(weights, mask) for weights in maps], dim=-4)) if return_weights else out


class _Layer(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual connection and post-norm."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.norm, self.hidden_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        messages, weights = self.attention(
            tokens, tokens, None if mask is None else mask.unsqueeze(-2), return_weights=return_weights
        )
        mixed = self.norm(tokens + self.dropout(messages))
        return self.hidden_norm(mixed + self.dropout(self.feed(mixed))), weights
