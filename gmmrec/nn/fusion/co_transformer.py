"""Two sets of tokens, such as the words of a title and the regions of a picture, that attend to each other."""

from torch import Tensor, nn

from gmmrec.nn.attention import MultiHeadAttention, rows_of
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing


class CoTransformerLayer(nn.Module):
    r"""A co-attentional Transformer layer: each side's queries read the other side's keys and values.

    .. math::
        \mathbf{C} = \mathrm{A}(\mathbf{X W}_Q, \mathbf{Y W}_K, \mathbf{Y W}_V), \qquad
        \mathbf{E} = \mathrm{LN}(\mathbf{X} + \mathbf{C W}_O), \qquad
        \mathbf{X}' = \mathrm{LN}(\mathbf{E} + \mathbf{W}_2 \, \mathrm{GELU}(\mathbf{W}_1 \mathbf{E}))

    and the same for :math:`\mathbf{Y}` with parameters of its own, from the sides as they were before the layer. It is the
    connection block between the two streams of MM-Rec (Wu et al., SIGIR 2022, https://arxiv.org/abs/2104.07407), taken from
    ViLBERT. The authors' code loses its masks on the way; here they hold. A side without tokens says nothing: the other goes on
    with :math:`\mathbf{C} = 0`.

    With two sides it departs from the signature of the fusions, and gives tokens back: pool each side with a linear map and
    :class:`~gmmrec.nn.fusion.gate.GateFusion`, as MM-Rec does.

    Args:
        left_dim: Width of left tokens.
        right_dim: Width of right tokens.
        width: Width of all heads together; None for the larger of the two.
        num_heads: H.
        left_hidden: Width of the left feed-forward layer; None for 4 times the width of the tokens.
        right_hidden: The same for the right one.
        dropout: Share of attention weights, and of what is added to a side, that is dropped in training.

    Shapes:
        - **input:** left ``[..., P, left_dim]``, right ``[..., T, right_dim]``, masks ``[..., P]`` and ``[..., T]``
        - **output:** both sides, as they came; zeros in place of missing tokens. Weights ``[..., H, P, T]`` (left tokens read right
          ones) and ``[..., H, T, P]``, zeros in the rows of missing tokens

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
        """Both sides after they have read each other."""
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        new_left, of_left = self.left(left, right, right_mask, return_weights)
        new_right, of_right = self.right(right, left, left_mask, return_weights)
        sides = hide_missing(new_left, left_mask), hide_missing(new_right, right_mask)
        return (sides, (rows_of(of_left, left_mask), rows_of(of_right, right_mask))) if return_weights else sides


class _Side(nn.Module):
    """What one side does in a layer."""

    def __init__(self, dim: int, other_dim: int, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, token_dim=other_dim, width=width, dropout=dropout)
        self.norm, self.hidden_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, own: Tensor, other: Tensor, mask: Tensor | None, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        read, weights = self.attention(own, other, None if mask is None else mask.unsqueeze(-2), return_weights=return_weights)
        mixed = self.norm(own + self.dropout(read))
        return self.hidden_norm(mixed + self.dropout(self.feed(mixed))), weights
