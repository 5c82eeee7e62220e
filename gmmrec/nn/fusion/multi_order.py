"""Multi-order attention as a fusion, over modalities instead of the items of a history."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.sequence.multi_order import MultiOrderAttention, OrderWeights, ResidualTower, draw


class MultiOrderFusion(nn.Module):
    r"""Multi-order attention over the tokens, followed by a residual MLP.

    .. math:: \mathbf{z} = \mathbf{x}_P + \mathbf{h}, \qquad
        \mathbf{x}_p = \mathrm{ReLU}(\mathbf{W}_p \mathbf{x}_{p-1} + \mathbf{b}_p + \mathbf{x}_{p-1}), \qquad
        \mathbf{x}_0 = \mathbf{h}

    with :math:`\mathbf{h}` of :class:`gmmrec.nn.sequence.multi_order.MultiOrderAttention`: both levels of MARank (Yu et al., AAAI
    2019), from the released code, where tokens are the last items of a user. Using modalities instead is our choice.

    Args:
        dim: Width of tokens and queries.
        num_orders: Number of orders K.
        num_residual: Number of layers P of the residual MLP.
        dropout: Dropout probability of the input of every matrix.
        squash: Whether to apply a sigmoid to logits before the softmax, so that no token's weight vanishes.
        shortcut: Vector added to the result of order 0: the last token (of an ordered set), the query (``anchor``), or none.
        attention: ``mean`` for uniform weights of tokens and orders.
        init_std: Standard deviation of initial matrices, initialised as in the released code; None for torch's defaults.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., D]`` (None: the mean of the tokens)
        - **output:** ``[..., D]``; zeros for a row without tokens. Weights ``[..., M]`` combine all orders
    """

    def __init__(
        self,
        dim: int,
        num_orders: int = 2,
        num_residual: int = 2,
        *,
        dropout: float = 0.0,
        squash: bool = True,
        shortcut: Literal["last", "anchor"] | None = None,
        attention: Literal["multi_order", "mean"] = "multi_order",
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        self.read = MultiOrderAttention(
            dim, num_orders, dropout=dropout, squash=squash, shortcut=shortcut, attention=attention, init_std=init_std
        )
        self.mix = ResidualTower(dim, num_residual, dropout=dropout)
        if init_std is not None:
            draw(self.mix, init_std)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens, guided by the query, or by their mean without one."""
        hidden, weights = self.weigh(tokens, mask, query)
        fused = hidden + self.mix(hidden)
        if mask is not None:  # no biases for rows without tokens
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, weights.shares) if return_weights else fused

    def weigh(self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None) -> tuple[Tensor, OrderWeights]:
        """Return h ``[..., D]``, the input of the MLP, and the weights within and of the orders."""
        hidden, weights = self.read(tokens, mask, query, return_weights=True)
        return hidden, weights
