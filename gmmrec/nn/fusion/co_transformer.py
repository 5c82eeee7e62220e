"""Co-attention between two sets of tokens, such as the words of a title and the regions of an image."""

from torch import Tensor, nn

from gmmrec.nn.attention import MultiHeadAttention, rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing


class CoTransformerLayer(nn.Module):
    r"""Co-attentional Transformer layer: the queries of each side attend to the keys and values of the other.

    .. math::
        \mathbf{C} = \mathrm{A}(\mathbf{X W}_Q, \mathbf{Y W}_K, \mathbf{Y W}_V), \qquad
        \mathbf{E} = \mathrm{LN}(\mathbf{X} + \mathbf{C W}_O), \qquad
        \mathbf{X}' = \mathrm{LN}(\mathbf{E} + \mathbf{W}_2 \, \mathrm{GELU}(\mathbf{W}_1 \mathbf{E}))

    and likewise for :math:`\mathbf{Y}` with separate parameters; both sides read the input of the layer. This is the connection
    block between the two streams of MM-Rec (Wu et al., SIGIR 2022, https://arxiv.org/abs/2104.07407), adopted from ViLBERT. The
    authors' code drops its masks; here they apply. With an empty side, the other continues with :math:`\mathbf{C} = 0`.

    Unlike a fusion, it has two sides and returns tokens: pool each side with a linear map and
    :class:`~gmmrec.nn.fusion.gate.GateFusion`, as MM-Rec does.

    Args:
        left_dim: Width of left tokens.
        right_dim: Width of right tokens.
        width: Total width of all heads; None for the larger of both token widths.
        num_heads: Number of heads H.
        left_hidden: Hidden width of the left feed-forward block; None for 4 times ``left_dim``.
        right_hidden: Hidden width of the right feed-forward block; None for 4 times ``right_dim``.
        dropout: Dropout probability of attention weights and residual branches.

    Shapes:
        - **input:** left ``[..., P, left_dim]``, right ``[..., T, right_dim]``, masks ``[..., P]`` and ``[..., T]``
        - **output:** both sides in their input shapes; zeros for missing tokens. Weights ``[..., H, P, T]`` (of right tokens for
          left queries) and ``[..., H, T, P]``, zeros in the rows of missing tokens

    >>> import torch
    >>> words, regions = CoTransformerLayer(12, 8, num_heads=4)(torch.randn(2, 5, 12), torch.randn(2, 3, 8))
    >>> words.shape, regions.shape
    (torch.Size([2, 5, 12]), torch.Size([2, 3, 8]))
    """

    def __init__(
        self,
        left_dim: int,
        right_dim: int,
        *,
        width: int | None = None,
        num_heads: int = 8,
        left_hidden: int | None = None,
        right_hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = width or max(left_dim, right_dim)
        self.left = _Side(left_dim, right_dim, width, num_heads, left_hidden or 4 * left_dim, dropout)
        self.right = _Side(right_dim, left_dim, width, num_heads, right_hidden or 4 * right_dim, dropout)

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        left_mask: Tensor | None = None,
        right_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Apply the layer to both sides."""
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        new_left, left_weights = self.left(left, right, right_mask, return_weights)
        new_right, right_weights = self.right(right, left, left_mask, return_weights)
        sides = hide_missing(new_left, left_mask), hide_missing(new_right, right_mask)
        return (sides, (rows_of(left_weights, left_mask), rows_of(right_weights, right_mask))) if return_weights else sides


class _Side(nn.Module):
    """One side of the layer."""

    def __init__(self, dim: int, other_dim: int, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, token_dim=other_dim, width=width, dropout=dropout)
        self.norm, self.hidden_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, other: Tensor, mask: Tensor | None, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        visible = None if mask is None else mask.unsqueeze(-2)
        messages, weights = self.attention(tokens, other, visible, return_weights=return_weights)
        mixed = self.norm(tokens + self.dropout(messages))
        return self.hidden_norm(mixed + self.dropout(self.feed(mixed))), weights
