"""Gates that tokens open for themselves."""

from typing import Literal

import torch
from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing, masked_softmax


class GateFusion(nn.Module):
    r"""Weighs every token by a gate that it computes from itself, :math:`\mathbf{z} = \sum_m g^m \mathbf{x}^m`.

    The logit of a token is :math:`l^m = \mathbf{w}^\top \mathbf{x}^m + b`, or, with a hidden layer, item-level attention as in MGCN
    (Yu et al., ACM MM 2023): :math:`l^m = \mathbf{q}^\top \tanh(\mathbf{W} \mathbf{x}^m + \mathbf{b})`. The gate is a softmax over
    the tokens, in which they compete, or a sigmoid, by which each stands for itself. A bias that the softmax cancels is left out.

    Args:
        dim: Width of a token.
        hidden: Width of the hidden layer; None for a linear logit.
        gate: What becomes of the logits.
        num_tokens: M, for parameters of their own for every token; None (the default) for shared ones, so that the order of the
            tokens does not matter and their number is free.
        bias: Whether logits have a bias where it is not cancelled.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token. Weights of a sigmoid do not sum to 1: each is between 0 and 1
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int | None = None,
        gate: Literal["softmax", "sigmoid"] = "softmax",
        num_tokens: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if gate not in ("softmax", "sigmoid"):
            raise ValueError(f"gate must be 'softmax' or 'sigmoid', but is {gate!r}")
        self.gate = gate
        bias = bias and (gate == "sigmoid" or num_tokens is not None)
        self.logits = nn.ModuleList(_logit(dim, hidden, bias=bias) for _ in range(num_tokens or 1))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        tokens = hide_missing(tokens, mask)
        if len(self.logits) == 1:
            logits: Tensor = self.logits[0](tokens).squeeze(-1)
        else:
            parts = zip(self.logits, tokens.unbind(-2), strict=True)
            logits = torch.cat([logit(token) for logit, token in parts], dim=-1)  # [..., M]
        if self.gate == "softmax":
            weights = masked_softmax(logits, mask)
        else:
            weights = logits.sigmoid() if mask is None else logits.sigmoid().masked_fill(~mask, 0.0)
        fused = (weights.unsqueeze(-1) * tokens).sum(-2)
        return (fused, weights) if return_weights else fused


def _logit(dim: int, hidden: int | None, *, bias: bool) -> nn.Module:
    if hidden is None:
        return nn.Linear(dim, 1, bias=bias)
    return nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
