"""Items of a set that attend to each other, whatever their order; some of them may be hidden, to be guessed."""

import torch
from torch import Tensor, nn

from gmmrec.nn.attention import MultiHeadAttention, rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing


class SetAttention(nn.Module):
    r"""A Transformer encoder without positions: the outfit model (FOM) of POG (Chen et al., KDD 2019).

    .. math::
        \mathbf{H}^0 = \mathrm{LReLU}(\mathbf{X W}_0 + \mathbf{b}_0) \mathbf{W}_1 + \mathbf{b}_1, \qquad
        \mathbf{Z} = \mathrm{LN}(\mathbf{H}^{l-1} + \mathrm{MHA}(\mathbf{H}^{l-1})), \qquad
        \mathbf{H}^l = \mathrm{LN}(\mathbf{Z} + \mathrm{LReLU}(\mathbf{Z W}_a + \mathbf{b}_a) \mathbf{W}_b + \mathbf{b}_b)

    and :math:`\mathbf{W}_g \mathbf{H}^L` in the end, which for a hidden item is compared with the vectors of those that may stand
    in its place. A reconstruction of https://arxiv.org/abs/1905.01866: the blocks, the learned vector of a hidden item and the
    missing positions are the paper's; the algebra inside the blocks is that of the standard Transformer.

    It departs from the signature of the fusions: it asks for hidden items where these ask for a query, and what comes back is a
    vector for every item; their mean fuses the set.

    Args:
        dim: Width of the model.
        num_layers: L.
        num_heads: H.
        in_dim: Width of tokens; None for ``dim``.
        out_dim: Width of the result; None for the width of tokens, so that it can be compared with them.
        hidden: Width of the feed-forward layers; None for 4 times ``dim``.
        transition: Whether tokens go through the two layers that make :math:`\mathbf{H}^0`; else through one linear map.
        dropout: Share of attention weights, and of what a layer adds, that is dropped in training.
        hides: Whether items are ever hidden; without, there is no vector that stands for them.

    Shapes:
        - **input:** tokens ``[..., M, in_dim]``, mask ``[..., M]``, replace ``[..., M]``: True in place of present tokens that are
          hidden; these are not read, a learned vector stands for all of them
        - **output:** ``[..., M, out_dim]``; zeros in place of missing tokens. Weights ``[..., L, H, M, M]``, zeros in the rows of
          missing tokens

    >>> outfit = torch.randn(2, 4, 8)
    >>> guess = SetAttention(16, num_layers=2, num_heads=2, in_dim=8)(outfit, replace=torch.tensor([False, True, False, False]))
    >>> (guess[:, 1] @ outfit.mT).shape    # how well items of two outfits fit in place of the second one
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
        """What every token becomes among the others."""
        tokens = hide_missing(tokens, mask)
        if replace is not None:
            assert self.unknown is not None  # built to hide items
            tokens = torch.where(replace.unsqueeze(-1), self.unknown, tokens)
        hidden, maps = self.transition(tokens), []
        for layer in self.layers:
            hidden, weights = layer(hide_missing(hidden, mask), mask, return_weights)
            maps.append(weights)
        made = hide_missing(self.output(hidden), mask)
        return (made, torch.stack([rows_of(weights, mask) for weights in maps], dim=-4)) if return_weights else made


class _Layer(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual and a normalisation after it."""

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
