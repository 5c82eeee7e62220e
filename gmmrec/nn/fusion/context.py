"""Context in groups, fused by products of its features, and what it does to embeddings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing


class ContextFusion(nn.Module):
    r"""Products of up to n features of a context: the context module of MMT-Net (Krishnan et al., SIGIR 2020).

    First every group of features (or modality) :math:`\mathbf{c}_m` is shifted by what the other groups say,

    .. math:: \mathbf{c}_m \leftarrow \mathbf{c}_m + s_m \tanh(\mathbf{W}_m \mathbf{c}_{-m} + \mathbf{b}_m)

    with a factor :math:`s_m` that begins at 0; then every layer multiplies by the whole context :math:`\mathbf{c}` once more:

    .. math::
        \mathbf{z}^1 = \sigma(\mathbf{W}^1 \mathbf{c} + \mathbf{b}^1), \qquad
        \mathbf{z}^n = \sigma\big( \mathbf{W}^n (\mathbf{z}^{n-1} \odot \mathbf{A}^n \mathbf{c}) + \mathbf{b}^n \big)

    A reconstruction of https://arxiv.org/abs/2005.10473: the paper's abstract and a summary name the parts, not the equations.
    Nothing here depends on users, items or their number, so that a module fitted on one domain works in another.

    Args:
        dim: Width of a group and of the result.
        num_tokens: M, number of groups.
        order: n.
        residual: Whether groups are shifted; a single group never is.
        activation: :math:`\sigma`.
        widths: Widths of the groups where they are not ``dim``; the groups are then expected side by side.

    Shapes:
        - **input:** tokens ``[..., M, D]``, or ``[..., sum(widths)]`` where widths are given; mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no group. A missing group is zeros. The weights, which there are none of,
          are equal shares
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
            raise ValueError(f"order must be at least 1, but is {order}")
        if widths is not None and len(widths) != num_tokens:
            raise ValueError(f"widths are of {len(widths)} groups, but num_tokens is {num_tokens}; give one width a group")
        self.num_tokens, self.side_by_side, self.activation = num_tokens, widths is not None, activation
        sizes = [dim] * num_tokens if widths is None else list(widths)
        self.group: Tensor
        self.register_buffer("group", torch.arange(num_tokens).repeat_interleave(torch.tensor(sizes)), persistent=False)
        self.others = nn.Linear(sum(sizes), sum(sizes)) if residual and num_tokens > 1 else None  # all W_m and b_m
        self.factor = nn.Parameter(torch.zeros(num_tokens)) if self.others is not None else None  # s
        self.first = nn.Linear(sum(sizes), dim)
        self.factors = nn.ModuleList(nn.Linear(sum(sizes), dim, bias=False) for _ in range(order - 1))  # A
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(order - 1))  # W and b

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        context = self.shifted(tokens, mask)
        fused = self._products(lambda layer: layer(context))
        if mask is not None:  # no biases of a context that is not there
            fused = hide_missing(fused, mask.any(-1))
        if not return_weights:
            return fused
        groups = context.new_empty(*context.shape[:-1], self.num_tokens, 0)
        return fused, uniform_weights(groups, mask)

    def shifted(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """All groups side by side ``[..., F]``, each with what the others say added; zeros in place of missing ones."""
        context = tokens if self.side_by_side else tokens.flatten(-2)
        there = None if mask is None else mask[..., self.group]  # [..., F]
        if there is not None:
            context = context.masked_fill(~there, 0.0)
        if self.others is None or self.factor is None:
            return context
        shift = self.factor[self.group] * F.linear(context, self._from_others(self.others), self.others.bias).tanh()
        return context + (shift if there is None else shift.masked_fill(~there, 0.0))

    def of_parts(self, *parts: tuple[Tensor, Tensor]) -> Tensor:
        """The same for contexts that come in parts, such as that of a user and that of an item, which meet in every pair.

        Up to the first nonlinearity all is linear in the context, so that every part is mapped by itself, as often as it occurs,
        and the results are added; all columns side by side are needed for the shift alone, not without ``residual``.

        Args:
            *parts: Values ``[..., f]`` that broadcast against each other but for the last axis, and their columns ``[f]`` among all
                groups side by side. Every column occurs once.

        Returns:
            ``[..., D]``.
        """
        shift: Tensor | None = None
        if self.others is not None and self.factor is not None:
            said = _linear_of_parts(parts, self._from_others(self.others), self.others.bias)
            shift = self.factor[self.group] * said.tanh()

        def linear(layer: nn.Module) -> Tensor:
            assert isinstance(layer, nn.Linear)
            total = _linear_of_parts(parts, layer.weight, layer.bias)
            return total if shift is None else total + F.linear(shift, layer.weight)

        return self._products(linear)

    def _products(self, linear: Callable[[nn.Module], Tensor]) -> Tensor:
        """The layers, given what a linear map makes of the (shifted) context."""
        fused = self.activation(linear(self.first))
        for factor, layer in zip(self.factors, self.layers, strict=True):
            fused = self.activation(layer(fused * linear(factor)))
        return fused

    def _from_others(self, others: nn.Linear) -> Tensor:
        """All W_m in one matrix: no group says anything of itself."""
        return others.weight.masked_fill(self.group[:, None] == self.group, 0.0)


def _linear_of_parts(parts: Sequence[tuple[Tensor, Tensor]], weight: Tensor, bias: Tensor | None) -> Tensor:
    first, *others = (F.linear(values, weight[:, columns]) for values, columns in parts)
    total = first if bias is None else first + bias
    for other in others:
        total = total + other
    return total


class ContextModulation(nn.Module):
    r"""An embedding as a context reshapes it, :math:`\mathrm{MLP}(\mathbf{e} \odot \mathbf{z})`: the conditioning of MMT-Net.

    The product is a bilinear transform of low rank; the layers are linear maps, each followed by ReLU. Users and items have one of
    these modules each. It departs from the signature of the fusions, having one embedding and one context and no tokens.

    Args:
        dim: Width of embeddings and contexts.
        num_layers: Without any, the result is the product.

    Shapes:
        - **input:** embedding ``[..., D]``, context ``[..., D]`` (of :class:`ContextFusion`), mask ``[...]``, True where there is a
          context; without one the embedding is not reshaped, as if the context were ones
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, num_layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))

    def forward(self, embedding: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reshapes every embedding."""
        if mask is not None:
            context = context.masked_fill(~mask.unsqueeze(-1), 1.0)
        hidden = embedding * context
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        return hidden


class ResidualAdapter(nn.Module):
    r"""What the input of a frozen module lacks in another domain.

    .. math:: \mathbf{x}' = \mathbf{x} + \mathbf{V} \, \mathrm{ReLU}(\mathbf{U x} + \mathbf{b})

    At first nothing, because :math:`\mathbf{V}` begins as zeros: the frozen module then computes what it did in its own domain. (A
    ReLU alone that begins at zero would get no gradient, and stay so.) The residual of MMT-Net's transfer, reconstructed; the term
    that keeps the statistics of the outputs near those of the source is a matter of the loss.

    Args:
        dim: Width of the input.
        hidden: Width of the hidden layer; None for ``dim``.

    Shapes:
        - **input:** ``[..., D]``
        - **output:** ``[..., D]``
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden or dim), nn.Linear(hidden or dim, dim, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        adapted: Tensor = x + self.outer(F.relu(self.inner(x)))
        return adapted
