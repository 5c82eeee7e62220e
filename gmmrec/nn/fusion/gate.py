"""Gated fusion, with gates computed from the tokens."""

from typing import Literal

import torch
from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax


class GateFusion(nn.Module):
    r"""Weighted sum of the tokens, each gated by itself: :math:`\mathbf{z} = \sum_m g^m \mathbf{x}^m`.

    The logit of a token is :math:`l^m = \mathbf{w}^\top \mathbf{x}^m + b`, or, with a hidden layer, item-level attention as in MGCN
    (Yu et al., ACM MM 2023): :math:`l^m = \mathbf{q}^\top \tanh(\mathbf{W} \mathbf{x}^m + \mathbf{b})`. The gate is a softmax over
    the tokens, which then compete, or an independent sigmoid for each. A bias that the softmax cancels is omitted.

    Args:
        dim: Token width.
        hidden: Hidden width; None for a linear logit.
        gate: Activation of the logits.
        num_tokens: Number of tokens M, for separate parameters per token; None (the default) to share them, so that the order and
            the number of tokens do not matter.
        bias: Whether logits have a bias, unless it cancels.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. Sigmoid weights lie between 0 and 1 and do not sum to 1
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
            raise UsageError(f"gate must be 'softmax' or 'sigmoid', but is {gate!r}")
        self.gate = gate
        bias = bias and (gate == "sigmoid" or num_tokens is not None)
        self.logits = nn.ModuleList(_logit(dim, hidden, bias=bias) for _ in range(num_tokens or 1))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
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
