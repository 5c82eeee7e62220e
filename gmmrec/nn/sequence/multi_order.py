"""Multi-order attention: over tokens at several depths, then over the depths."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax

Shortcut = Literal["last", "anchor"]


class OrderWeights(NamedTuple):
    """Attention weights of the tokens within every order, and of the orders, order 0 first."""

    token: Tensor
    """Weights of the tokens ``[..., K + 1, L]``; each row sums to 1, or to 0 without tokens."""
    order: Tensor
    """Weights of the orders ``[..., K + 1]``; they sum to 1."""

    @property
    def shares(self) -> Tensor:
        """Total weight of each token over all orders ``[..., L]``; sums to 1. The weight 1 of a shortcut is not included."""
        return torch.einsum("...k,...kl->...l", self.order, self.token)


class SquashedAttention(nn.Module):
    r"""Additive attention with squashed logits, so that every token keeps some weight.

    .. math:: a_j = \mathrm{softmax}_j \big( \sigma( \mathbf{v}^\top
        \tanh(\mathbf{W}_i \mathbf{x}_j + \mathbf{W}_u \mathbf{u} + \mathbf{b}) ) \big)

    No token of a row has more than e times the weight of another. Without a guide, :math:`\mathbf{W}_u \mathbf{u}` is omitted.

    Args:
        dim: Width of tokens and guides.
        guided: Whether there is a guide.
        dropout: Dropout probability of the inputs of both matrices.
        squash: Whether to apply the sigmoid; without it, this is ordinary additive attention.

    Shapes:
        - **input:** tokens ``[..., L, D]``, mask ``[..., L]``, guide ``[..., D]``
        - **output:** weights ``[..., L]``
    """

    def __init__(self, dim: int, *, guided: bool = True, dropout: float = 0.0, squash: bool = True) -> None:
        super().__init__()
        self.squash, self.dropout = squash, Dropout(dropout)
        self.token = nn.Linear(dim, dim)
        self.guide = nn.Linear(dim, dim, bias=False) if guided else None
        self.logit = nn.Linear(dim, 1, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, guide: Tensor | None = None) -> Tensor:
        """Compute the weights of tokens; missing tokens must already be hidden."""
        hidden = self.token(self.dropout(tokens))
        if self.guide is not None:
            hidden = hidden + self.guide(self.dropout(guide)).unsqueeze(-2)
        logits = self.logit(hidden.tanh()).squeeze(-1)
        return masked_softmax(logits.sigmoid() if self.squash else logits, mask)  # masked after the sigmoid, which has no -inf


class ResidualTower(nn.Module):
    r"""Stack of residual layers.

    .. math:: \mathbf{x}_p = \mathrm{ReLU}(\mathbf{W}_p \mathbf{x}_{p-1} + \mathbf{b}_p + \mathbf{x}_{p-1})

    Args:
        dim: Width of input and output.
        num_layers: Number of layers; 0 returns the input.
        dropout: Dropout probability of the inputs of the matrices, not of the residuals.

    Shapes:
        - **input:** ``[..., D]``
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, num_layers: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))

    def depths(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the input ``[..., D]``, then the output of every layer."""
        yield x
        for layer in self.layers:
            x = torch.relu(layer(self.dropout(x)) + x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last layer."""
        *_, last = self.depths(x)
        return last


class MultiOrderAttention(nn.Module):
    r"""Attention over tokens at each of K + 1 depths, then attention over the depths.

    .. math::
        \mathbf{z}_k = \sum_j a_j^k \mathbf{x}_j^k, \qquad \mathbf{h} = \sum_k \beta_k \mathbf{z}_k

    where :math:`\mathbf{x}_j^k` and the anchor's :math:`\mathbf{u}^k` are the outputs of layer k of two residual towers,
    :math:`a^k` is a :class:`SquashedAttention` over tokens guided by the anchor, and :math:`\beta` one over orders, without a
    guide. A shortcut, the last token or the anchor, may be added to :math:`\mathbf{z}_0`, which pools the tokens as they are. The
    individual level of MARank (Yu et al., AAAI 2019, https://doi.org/10.1609/aaai.v33i01.33015709), from the released code.

    Args:
        dim: Width of tokens and anchors.
        num_orders: K; with 0, only the tokens as they are.
        dropout: Dropout probability of the inputs of all matrices.
        squash: See :class:`SquashedAttention`.
        shortcut: Vector added to :math:`\mathbf{z}_0`: the token at the last position (the newest of a sequence), the anchor, or
            none.
        attention: ``mean`` weighs all tokens present and all orders uniformly, without parameters; the anchor then enters through
            its shortcut only.
        init_std: Standard deviation of all matrices; biases and logit vectors are then drawn from N(0, 1), as in the released code.
            None for torch's defaults.

    Shapes:
        - **input:** tokens ``[..., L, D]``, mask ``[..., L]``, query ``[..., D]``, the anchor, such as a user or an ID embedding
          (default: the mean of the tokens)
        - **output:** ``[..., D]``; zeros without tokens. Weights are :class:`OrderWeights`

    >>> read = MultiOrderAttention(16)
    >>> history, user = torch.randn(4, 6, 16), torch.randn(4, 16)
    >>> fused, weights = read(history, None, user, return_weights=True)
    >>> fused.shape, weights.token.shape, weights.order.shape, weights.shares.shape
    (torch.Size([4, 16]), torch.Size([4, 3, 6]), torch.Size([4, 3]), torch.Size([4, 6]))
    """

    def __init__(
        self,
        dim: int,
        num_orders: int = 2,
        *,
        dropout: float = 0.0,
        squash: bool = True,
        shortcut: Shortcut | None = "last",
        attention: Literal["multi_order", "mean"] = "multi_order",
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        if shortcut not in ("last", "anchor", None) or attention not in ("multi_order", "mean"):
            raise UsageError(
                f"shortcut must be 'last', 'anchor' or None, and attention 'multi_order' or 'mean', "
                f"but they are {shortcut!r} and {attention!r}"
            )
        self.shortcut, weighs = shortcut, attention == "multi_order"
        self.tokens = ResidualTower(dim, num_orders, dropout=dropout)
        self.anchor = ResidualTower(dim, num_orders, dropout=dropout) if weighs else None
        count = num_orders + 1 if weighs else 0
        self.inside = nn.ModuleList(SquashedAttention(dim, dropout=dropout, squash=squash) for _ in range(count))
        between = SquashedAttention(dim, guided=False, dropout=dropout, squash=squash) if weighs and num_orders else None
        self.between = between
        if init_std is not None:
            draw(self, init_std)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, OrderWeights]:
        """Pool the tokens, guided by the anchor."""
        tokens = hide_missing(tokens, mask)
        anchor = masked_mean(tokens, mask) if query is None else query
        depths, pooled = list(self.tokens.depths(tokens)), []
        if self.anchor is None:
            weights = [masked_softmax(torch.zeros_like(tokens[..., 0]), mask)] * len(depths)
        else:
            steps = zip(self.inside, depths, self.anchor.depths(anchor), strict=True)
            weights = [attend(depth, mask, guide) for attend, depth, guide in steps]
        for weight, depth in zip(weights, depths, strict=True):
            pooled.append((weight.unsqueeze(-1) * depth).sum(-2))  # few tokens: twice as fast as a matrix product
        if self.shortcut is not None:
            pooled[0] = pooled[0] + (tokens[..., -1, :] if self.shortcut == "last" else anchor)
        orders = torch.stack(pooled, dim=-2)  # [..., K + 1, D]
        order = torch.zeros_like(orders[..., 0]).softmax(-1) if self.between is None else self.between(orders)
        fused = (order.unsqueeze(-1) * orders).sum(-2)
        if mask is not None:
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, OrderWeights(torch.stack(weights, dim=-2), order)) if return_weights else fused


@torch.no_grad()
def draw(module: nn.Module, std: float) -> None:
    """Initialise like the released code of MARank: matrices from N(0, std^2), biases and logit vectors from N(0, 1)."""
    for name, parameter in module.named_parameters():
        parameter.normal_(std=1.0 if name.endswith(("bias", "logit.weight")) else std)
