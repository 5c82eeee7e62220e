"""Attention of several orders: over tokens at several depths, then over the depths."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gmmrec.nn.dropout import Dropout
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax

Shortcut = Literal["last", "anchor"]


class OrderWeights(NamedTuple):
    """What counted how much: tokens inside every order, and the orders, order 0 first."""

    token: Tensor
    """``[..., K + 1, L]``; each row sums to 1, or to 0 where there is no token."""
    order: Tensor
    """``[..., K + 1]``; sums to 1."""

    @property
    def shares(self) -> Tensor:
        """Of each token in all orders together ``[..., L]``; sums to 1. The token of a shortcut has its 1 beside this."""
        return torch.einsum("...k,...kl->...l", self.order, self.token)


class SquashedAttention(nn.Module):
    r"""Additive attention whose logits are squashed, so that no token is ever lost.

    .. math:: a_j = \mathrm{softmax}_j \big( \sigma( \mathbf{v}^\top
        \tanh(\mathbf{W}_i \mathbf{x}_j + \mathbf{W}_u \mathbf{u} + \mathbf{b}) ) \big)

    Of two tokens of a row none has more than e times the weight of the other. Without a guide :math:`\mathbf{W}_u \mathbf{u}` falls
    away.

    Args:
        dim: Width of tokens and guides.
        guided: Whether there is a guide.
        dropout: Share of the input of both matrices that is dropped in training.
        squash: Whether the sigmoid is applied; without it, this is ordinary additive attention.

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
        """The weights of tokens; missing ones must be hidden already."""
        hidden = self.token(self.dropout(tokens))
        if self.guide is not None:
            hidden = hidden + self.guide(self.dropout(guide)).unsqueeze(-2)
        logits = self.logit(hidden.tanh()).squeeze(-1)
        return masked_softmax(logits.sigmoid() if self.squash else logits, mask)  # masked after the sigmoid: it has no -inf


class ResidualTower(nn.Module):
    r"""Layers that add to what they get.

    .. math:: \mathbf{x}_p = \mathrm{ReLU}(\mathbf{W}_p \mathbf{x}_{p-1} + \mathbf{b}_p + \mathbf{x}_{p-1})

    Args:
        dim: Width.
        num_layers: How many; 0 gives back what comes in.
        dropout: Share of the input of a matrix that is dropped in training, not of what is added.

    Shapes:
        - **input:** ``[..., D]``
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, num_layers: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))

    def depths(self, x: Tensor) -> Iterator[Tensor]:
        """``[..., D]`` as it comes in, and after every layer."""
        yield x
        for layer in self.layers:
            x = torch.relu(layer(self.dropout(x)) + x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """After the last layer."""
        *_, last = self.depths(x)
        return last


class MultiOrderAttention(nn.Module):
    r"""Tokens at K + 1 depths, each depth read by an attention of its own, and then an attention over the depths.

    .. math::
        \mathbf{z}_k = \sum_j a_j^k \mathbf{x}_j^k, \qquad \mathbf{h} = \sum_k \beta_k \mathbf{z}_k

    where :math:`\mathbf{x}_j^k` and the anchor's :math:`\mathbf{u}^k` are what comes out of layer k of two residual towers,
    :math:`a^k` a :class:`SquashedAttention` over tokens with the anchor as its guide, and :math:`\beta` one over orders, without a
    guide. :math:`\mathbf{z}_0`, of the tokens as they are, may have a shortcut added: the last token, or the anchor. The individual
    level of MARank (Yu et al., AAAI 2019, https://doi.org/10.1609/aaai.v33i01.33015709), from the released code.

    Args:
        dim: Width of tokens and anchors.
        num_orders: K; without any, tokens are read as they are.
        dropout: Share of the input of every matrix that is dropped in training.
        squash: See :class:`SquashedAttention`.
        shortcut: What is added to :math:`\mathbf{z}_0`: the token in the last place (of a sequence, the newest), the anchor, or
            nothing.
        attention: ``mean`` gives all tokens that are there, and all orders, the same weight, without parameters; nothing of the
            anchor is left then but its shortcut.
        init_std: Standard deviation of all matrices; biases and the vectors of logits are then drawn from N(0, 1), as in the
            released code. None for torch's own initial values.

    Shapes:
        - **input:** tokens ``[..., L, D]``, mask ``[..., L]``, query ``[..., D]``, the anchor: a user, or an ID embedding; without
          one, the mean of the tokens is it
        - **output:** ``[..., D]``; zeros where there is no token. Weights are :class:`OrderWeights`

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
            raise ValueError(
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
        """Reads the tokens as the anchor sees them."""
        tokens = hide_missing(tokens, mask)
        anchor = masked_mean(tokens, mask) if query is None else query
        depths, read = list(self.tokens.depths(tokens)), []
        if self.anchor is None:
            weights = [masked_softmax(torch.zeros_like(tokens[..., 0]), mask)] * len(depths)
        else:
            steps = zip(self.inside, depths, self.anchor.depths(anchor), strict=True)
            weights = [attend(depth, mask, guide) for attend, depth, guide in steps]
        for weight, depth in zip(weights, depths, strict=True):
            read.append((weight.unsqueeze(-1) * depth).sum(-2))  # few tokens: twice as fast as a product of matrices
        if self.shortcut is not None:
            read[0] = read[0] + (tokens[..., -1, :] if self.shortcut == "last" else anchor)
        orders = torch.stack(read, dim=-2)  # [..., K + 1, D]
        order = torch.zeros_like(orders[..., 0]).softmax(-1) if self.between is None else self.between(orders)
        fused = (order.unsqueeze(-1) * orders).sum(-2)
        if mask is not None:
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, OrderWeights(torch.stack(weights, dim=-2), order)) if return_weights else fused


@torch.no_grad()
def draw(module: nn.Module, std: float) -> None:
    """Initial values of the released code of MARank: matrices N(0, std^2), biases and the vectors of logits N(0, 1)."""
    for name, parameter in module.named_parameters():
        parameter.normal_(std=1.0 if name.endswith(("bias", "logit.weight")) else std)
