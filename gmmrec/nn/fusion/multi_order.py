"""Multi-order attention as a fusion: modalities in place of the items of a history."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.nn.sequence.multi_order import MultiOrderAttention, OrderWeights, ResidualTower, draw


class MultiOrderFusion(nn.Module):
    r"""Tokens at several depths are read order by order, the orders are weighed, and a residual perceptron follows.

    .. math:: \mathbf{z} = \mathbf{x}_P + \mathbf{h}, \qquad
        \mathbf{x}_p = \mathrm{ReLU}(\mathbf{W}_p \mathbf{x}_{p-1} + \mathbf{b}_p + \mathbf{x}_{p-1}), \qquad
        \mathbf{x}_0 = \mathbf{h}

    with :math:`\mathbf{h}` of :class:`gmmrec.nn.sequence.multi_order.MultiOrderAttention`: both levels of MARank (Yu et al., AAAI
    2019), from the released code, where tokens are the last items of a user. That modalities stand in their place is ours.

    Args:
        dim: Width of tokens and queries.
        num_orders: K.
        num_residual: Layers of the residual perceptron, P.
        dropout: Share of the input of every matrix that is dropped in training.
        squash: Whether logits go through a sigmoid before the softmax, so that no token is ever lost.
        shortcut: What is added to the tokens read as they are: the last token (of an ordered set), the query, or nothing.
        attention: ``mean`` gives tokens and orders the same weight.
        init_std: Initial values as in the released code with this deviation of the matrices; None for torch's own.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``, query ``[..., D]``: whose view it is; without one, the mean of the
          tokens
        - **output:** ``[..., D]``; zeros where there is no token. Weights ``[..., M]`` are the shares of tokens in all orders
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
        """Fuses as the query sees it, or as the tokens' mean does."""
        read, weights = self.weigh(tokens, mask, query)
        fused = read + self.mix(read)
        if mask is not None:  # biases speak even where nothing has been read
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, weights.shares) if return_weights else fused

    def weigh(self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None) -> tuple[Tensor, OrderWeights]:
        """What is read ``[..., D]``, before the perceptron, and the weights inside every order and of the orders."""
        read, weights = self.read(tokens, mask, query, return_weights=True)
        return read, weights
