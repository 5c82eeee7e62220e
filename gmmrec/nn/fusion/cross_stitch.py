"""Modality towers that exchange information after every layer."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.concat import ConcatFusion
from gmmrec.nn.masked import hide_missing

Share = Literal["scalar", "gate", "none"]


class CrossStitch(nn.Module):
    r"""Knowledge-sharing unit in which every token becomes a mixture, :math:`\mathbf{k}_m = \sum_n S_{mn} \mathbf{h}_n`.

    The shares are scalars, initially 0.9 for the token itself and 0.1 divided among the others, or gates computed from the token
    that sends, :math:`S_{mn} = \sigma(\langle \mathbf{g}_{mn}, \mathbf{h}_n \rangle)`. A missing token neither sends nor receives;
    the remaining scalars are rescaled so that :math:`\sum_n |S_{mn}|` is unchanged (gates are not rescaled).

    Args:
        dim: Token width; unused with scalars.
        num_tokens: Number of tokens M.
        share: Form of the shares; ``none`` leaves the tokens unchanged.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., M, D]``; zeros for missing tokens

    >>> CrossStitch(1, 2)(torch.tensor([[1.0], [2.0]])).detach()
    tensor([[1.1000],
            [1.9000]])
    """

    def __init__(self, dim: int, num_tokens: int, *, share: Share = "scalar") -> None:
        super().__init__()
        if share not in ("scalar", "gate", "none"):
            raise UsageError(f"share must be 'scalar', 'gate' or 'none', but is {share!r}")
        self.gate = nn.Parameter(_gates(dim, num_tokens)) if share == "gate" else None
        self.share = nn.Parameter(_shares(num_tokens)) if share == "scalar" else None

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the tokens of every node."""
        tokens = hide_missing(tokens, mask)
        if self.gate is not None:
            gates = torch.einsum("mnd,...nd->...mn", self.gate, tokens).sigmoid()
            return hide_missing(gates @ tokens, mask)
        if self.share is None:
            return tokens
        mixed = self.share @ tokens
        if mask is None:
            return mixed
        sizes = self.share.abs()
        remaining = mask.to(sizes.dtype) @ sizes.mT  # [..., M]: row sum over present tokens
        factor = torch.where(remaining > 0, sizes.sum(-1) / remaining.masked_fill(remaining == 0, 1.0), 1.0)
        return hide_missing(factor.unsqueeze(-1) * mixed, mask)


class CrossStitchFusion(nn.Module):
    r"""Multimodal feature learning of IRIS (Lv et al., IEEE Access 2019), https://arxiv.org/abs/1902.05566.

    Every modality has its own tower. The towers exchange information after each layer; their outputs are concatenated and mapped to
    the width of one token:

    .. math::
        \mathbf{h}_m^l = \mathrm{ReLU}(\mathbf{W}_m^l \mathbf{k}_m^{l-1} + \mathbf{b}_m^l), \qquad
        \mathbf{k}_m^l = \sum_n S_{mn}^l \mathbf{h}_n^l, \qquad
        \mathbf{c} = \mathbf{W} [\mathbf{k}_1^L \| \dots \| \mathbf{k}_M^L] + \mathbf{b}

    with :math:`\mathbf{k}_m^0` the token. A reconstruction: we know the paper's abstract, which names the knowledge-sharing units,
    and the cross-stitch networks it builds on, but not its equations.

    Args:
        dim: Width of a token and of the output.
        num_tokens: Number of tokens M, each with its own tower.
        num_layers: Number of layers L.
        share: See :class:`CrossStitch`.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. As there are no weights, uniform ones are returned
    """

    def __init__(self, dim: int, num_tokens: int, num_layers: int = 2, *, share: Share = "scalar") -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(dim, num_tokens, share) for _ in range(num_layers))
        self.fuse = ConcatFusion(dim, num_tokens)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        fused: Tensor | tuple[Tensor, Tensor] = self.fuse(self.forward_levels(tokens, mask), mask, return_weights=return_weights)
        return fused

    def forward_levels(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs of the towers ``[..., M, D]``, zeros for missing tokens."""
        tokens = hide_missing(tokens, mask)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return tokens


class _Layer(nn.Module):
    """One layer of every tower, and its cross-stitch unit."""

    def __init__(self, dim: int, num_tokens: int, share: Share) -> None:
        super().__init__()
        self.towers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_tokens))
        self.stitch = CrossStitch(dim, num_tokens, share=share)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        hidden = [F.relu(tower(token)) for tower, token in zip(self.towers, tokens.unbind(-2), strict=True)]
        shared: Tensor = self.stitch(torch.stack(hidden, dim=-2), mask)
        return shared


def _shares(num_tokens: int) -> Tensor:
    if num_tokens == 1:
        return torch.ones(1, 1)
    return torch.full((num_tokens, num_tokens), 0.1 / (num_tokens - 1)).fill_diagonal_(0.9)


def _gates(dim: int, num_tokens: int) -> Tensor:
    return nn.init.normal_(torch.empty(num_tokens, num_tokens, dim), std=dim**-0.5)
