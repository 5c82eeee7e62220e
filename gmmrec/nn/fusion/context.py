"""Context fusion by products of features, and context-conditioned embeddings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing


class ContextFusion(nn.Module):
    r"""Products of up to n features of a context: the context module of MMT-Net (Krishnan et al., SIGIR 2020).

    First every group of features (or modality) :math:`\mathbf{c}_m` is shifted by a function of the other groups,

    .. math:: \mathbf{c}_m \leftarrow \mathbf{c}_m + s_m \tanh(\mathbf{W}_m \mathbf{c}_{-m} + \mathbf{b}_m)

    with a factor :math:`s_m` initialised to 0; then every layer multiplies by the whole context :math:`\mathbf{c}`:

    .. math::
        \mathbf{z}^1 = \sigma(\mathbf{W}^1 \mathbf{c} + \mathbf{b}^1), \qquad
        \mathbf{z}^n = \sigma\big( \mathbf{W}^n (\mathbf{z}^{n-1} \odot \mathbf{A}^n \mathbf{c}) + \mathbf{b}^n \big)

    A reconstruction of https://arxiv.org/abs/2005.10473: the paper's abstract and a summary name the parts, not the equations.
    Nothing depends on users, items or their number, so a module trained on one domain works in another.

    Args:
        dim: Width of a group and of the output.
        num_tokens: Number of groups M.
        order: Order n of the products.
        residual: Whether to shift the groups; a single group is never shifted.
        activation: Activation :math:`\sigma`.
        widths: Widths of the groups, if not all ``dim``; the groups are then passed concatenated.

    Shapes:
        - **input:** tokens ``[..., M, D]``, or ``[..., sum(widths)]`` if widths are given; mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without groups. A missing group is zeros. As there are no weights, uniform ones
          are returned
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        order: int = 2,
        *,
        residual: bool = True,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if order < 1:
            raise UsageError(f"order must be at least 1, but is {order}")
        if widths is not None and len(widths) != num_tokens:
            raise UsageError(f"widths has {len(widths)} entries, but num_tokens is {num_tokens}; give one width per group")
        self.num_tokens, self.side_by_side, self.activation = num_tokens, widths is not None, activation
        sizes = [dim] * num_tokens if widths is None else list(widths)
        self.group: Tensor
        self.register_buffer(
            "group", torch.arange(num_tokens).repeat_interleave(torch.tensor(sizes), output_size=sum(sizes)), persistent=False
        )
        self.others = nn.Linear(sum(sizes), sum(sizes)) if residual and num_tokens > 1 else None  # all W_m and b_m
        self.factor = nn.Parameter(torch.zeros(num_tokens)) if self.others is not None else None  # s
        self.first = nn.Linear(sum(sizes), dim)
        self.factors = nn.ModuleList(nn.Linear(sum(sizes), dim, bias=False) for _ in range(order - 1))  # A
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(order - 1))  # W and b

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the groups; ``query`` is ignored."""
        context = self.shifted(tokens, mask)
        fused = self._products(lambda layer: layer(context))
        if mask is not None:  # no biases for rows without groups
            fused = hide_missing(fused, mask.any(-1))
        if not return_weights:
            return fused
        groups = context.new_empty(*context.shape[:-1], self.num_tokens, 0)
        return fused, uniform_weights(groups, mask)

    def shifted(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Concatenate the groups ``[..., F]``, each shifted by the others; zeros for missing ones."""
        context = tokens if self.side_by_side else tokens.flatten(-2)
        present = None if mask is None else mask[..., self.group]  # [..., F]
        if present is not None:
            context = context.masked_fill(~present, 0.0)
        if self.others is None or self.factor is None:
            return context
        shift = self.factor[self.group] * F.linear(context, self._from_others(self.others), self.others.bias).tanh()
        return context + (shift if present is None else shift.masked_fill(~present, 0.0))

    def of_parts(self, *parts: tuple[Tensor, Tensor]) -> Tensor:
        """Fuse contexts given in parts, such as those of users and items that meet in pairs.

        Up to the first nonlinearity the module is linear in the context, so every part is mapped separately, once, and the results
        are added; only the shift (``residual``) needs all columns together.

        Args:
            *parts: Values ``[..., f]``, which broadcast against each other except for the last axis, and their columns ``[f]``
                among the concatenated groups. Every column occurs once.

        Returns:
            ``[..., D]``.
        """
        shift: Tensor | None = None
        if self.others is not None and self.factor is not None:
            logits = _linear_of_parts(parts, self._from_others(self.others), self.others.bias)
            shift = self.factor[self.group] * logits.tanh()

        def linear(layer: nn.Module) -> Tensor:
            assert isinstance(layer, nn.Linear)
            total = _linear_of_parts(parts, layer.weight, layer.bias)
            return total if shift is None else total + F.linear(shift, layer.weight)

        return self._products(linear)

    def _products(self, linear: Callable[[nn.Module], Tensor]) -> Tensor:
        """Apply the layers; ``linear`` applies a linear map to the (shifted) context."""
        fused = self.activation(linear(self.first))
        for factor, layer in zip(self.factors, self.layers, strict=True):
            fused = self.activation(layer(fused * linear(factor)))
        return fused

    def _from_others(self, others: nn.Linear) -> Tensor:
        """Return all W_m in one matrix, zero within each group."""
        return others.weight.masked_fill(self.group[:, None] == self.group, 0.0)


def _linear_of_parts(parts: Sequence[tuple[Tensor, Tensor]], weight: Tensor, bias: Tensor | None) -> Tensor:
    first, *others = (F.linear(values, weight[:, columns]) for values, columns in parts)
    total = first if bias is None else first + bias
    for other in others:
        total = total + other
    return total


class ContextModulation(nn.Module):
    r"""Context-conditioned embedding of MMT-Net, :math:`\mathrm{MLP}(\mathbf{e} \odot \mathbf{z})`.

    The product is a low-rank bilinear transform; each layer is a linear map followed by ReLU. Users and items have separate
    modules. Unlike a fusion, it takes an embedding and a context instead of tokens.

    Args:
        dim: Width of embeddings and contexts.
        num_layers: Number of layers; 0 returns the product.

    Shapes:
        - **input:** embedding ``[..., D]``, context ``[..., D]`` (of :class:`ContextFusion`), mask ``[...]``, True where there is a
          context; a missing context is replaced by ones
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, num_layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))

    def forward(self, embedding: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Condition every embedding on its context."""
        if mask is not None:
            context = context.masked_fill(~mask.unsqueeze(-1), 1.0)
        hidden = embedding * context
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        return hidden


class ResidualAdapter(nn.Module):
    r"""Residual adapter for the input of a frozen module in a new domain.

    .. math:: \mathbf{x}' = \mathbf{x} + \mathbf{V} \, \mathrm{ReLU}(\mathbf{U x} + \mathbf{b})

    :math:`\mathbf{V}` is initialised to zeros, so the adapter starts as the identity and the frozen module as in its source domain.
    (A ReLU alone, initialised to zero, would get no gradient and stay zero.) A reconstruction of the residual in MMT-Net's
    transfer; the term that keeps the output statistics near those of the source belongs to the loss.

    Args:
        dim: Input width.
        hidden: Hidden width; None for ``dim``.

    Shapes:
        - **input:** ``[..., D]``
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden or dim), nn.Linear(hidden or dim, dim, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual."""
        adapted: Tensor = x + self.outer(F.relu(self.inner(x)))
        return adapted
