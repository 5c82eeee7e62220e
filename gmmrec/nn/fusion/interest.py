"""Attention over a history in the eyes of the item that may come next."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.masked import hide_missing, masked_softmax

LARGEST = 30.0
"""Logits are cut off at this size where weights need not sum to 1, and may grow with their exponential."""


class InterestAttention(nn.Module):
    r"""How much each item of a history says about a target item, for every pair anew.

    .. math::
        f_j = \mathbf{w}^\top \mathrm{ReLU}(\mathbf{W} [\mathbf{p} \| \mathbf{q}_j \| \mathbf{p} \odot \mathbf{q}_j] + \mathbf{b}),
        \qquad a_j = \frac{\exp f_j}{(\sum_k \exp f_k)^\beta}, \qquad \mathbf{z} = \sum_j a_j \mathbf{q}_j

    With :math:`\beta < 1` the weights sum to :math:`(\sum_k \exp f_k)^{1 - \beta}`: a long history counts for more than a short
    one. The score of the target is :math:`\langle \mathbf{p}, \mathbf{z} \rangle` and a bias. In training the target is one of the
    history's items, and must be missing there by the mask.

    The interest-related network of IRIS (Lv et al., IEEE Access 2019), https://arxiv.org/abs/1902.05566: a reconstruction, because
    we know its abstract and not its equations, which are those of attentive item similarity (NAIS, He et al., TKDE 2018).

    Args:
        dim: Width of tokens and queries.
        hidden: Width of the hidden layer; None for ``dim``.
        pair: What the hidden layer sees of a pair: both vectors (``concat``), their product (``prod``), or all of it.
        beta: Exponent of the sum, greater than 0; 1 is the softmax.

    Shapes:
        - **input:** tokens ``[..., M, D]`` (the history), mask ``[..., M]``, query ``[..., D]`` (the target). Leading axes are
          broadcast: tokens ``[B, 1, M, D]`` and query ``[B, C, D]`` are all pairs, and each history is mapped once
        - **output:** ``[..., D]``; zeros where there is no token. Weights ``[..., M]`` sum to 1 only with :math:`\beta = 1`
    """

    def __init__(
        self, dim: int, hidden: int | None = None, *, pair: Literal["concat", "prod", "both"] = "both", beta: float = 0.5
    ) -> None:
        super().__init__()
        if pair not in ("concat", "prod", "both"):
            raise ValueError(f"pair must be 'concat', 'prod' or 'both', but is {pair!r}")
        if not 0 < beta <= 1:
            raise ValueError(f"beta must be greater than 0 and at most 1, but is {beta}")
        self.beta, self.pair = beta, pair
        num_parts = {"concat": 2, "prod": 1, "both": 3}[pair]
        self.hidden = nn.Linear(num_parts * dim, hidden or dim)  # W and b
        self.logit = nn.Linear(hidden or dim, 1, bias=False)  # w

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The history as the target sees it.

        Raises:
            ValueError: There is no query.
        """
        if query is None:
            raise ValueError("interest attention needs a query, the target item; give one vector for every row of tokens")
        tokens = hide_missing(tokens, mask)
        weights = smoothed_softmax(self.logits(tokens, query), mask, self.beta)
        fused = torch.einsum("...m,...md->...d", weights, tokens)
        return (fused, weights) if return_weights else fused

    def logits(self, tokens: Tensor, query: Tensor) -> Tensor:
        """How relevant every token is to the query beside it ``[..., M]``."""
        parts = self.hidden.weight.split(tokens.shape[-1], dim=1)
        query = query.unsqueeze(-2)
        hidden: Tensor = self.hidden.bias
        if self.pair != "prod":  # a map of the pair side by side is a sum of one of each, and no pair is ever put side by side
            hidden = F.linear(query, parts[0], hidden) + F.linear(tokens, parts[1])
        if self.pair != "concat":
            hidden = F.linear(query * tokens, parts[-1]) + hidden
        logits: Tensor = self.logit(F.relu(hidden)).squeeze(-1)
        return logits


def smoothed_softmax(logits: Tensor, mask: Tensor | None, beta: float) -> Tensor:
    r"""Exponentials divided by the power ``beta`` of their sum over the last axis, :math:`\exp(f_j) / (\sum_k \exp f_k)^\beta`.

    Source: He et al., NAIS, TKDE 2018. The largest logit does not cancel where ``beta`` is less than 1, so logits
    beyond 30 are cut off there.

    Args:
        logits: ``[..., M]``.
        mask: ``[..., M]``, True where there is an entry; None: everywhere. A row without any is zeros.
        beta: Greater than 0; 1 is the softmax.

    >>> smoothed_softmax(torch.zeros(4), None, 0.5)
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    if beta == 1:
        return masked_softmax(logits, mask)
    logits = logits.clamp(-LARGEST, LARGEST)
    if mask is None:
        return (logits - beta * logits.logsumexp(-1, keepdim=True)).exp()
    hidden = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    total = hidden.logsumexp(-1, keepdim=True).clamp(min=-LARGEST)  # only of a row without entries it is less
    return (logits - beta * total).exp().masked_fill(~mask, 0.0)
