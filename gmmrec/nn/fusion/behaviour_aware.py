"""Fusion of the shared part of the modalities with their specific parts, which behaviour gates."""

from typing import Literal

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.fusion.gate import GateFusion
from gmmrec.nn.masked import hide_missing


class BehaviourAwareFusion(nn.Module):
    r"""The fuser of MGCN (Yu et al., ACM MM 2023), https://arxiv.org/abs/2308.03588.

    .. math::
        a^m &= \mathrm{softmax}_m \big( \mathbf{q}^\top \tanh(\mathbf{W}_4 \mathbf{x}^m + \mathbf{b}_4) \big), \qquad
        \mathbf{s} = \sum_m a^m \mathbf{x}^m, \qquad
        \mathbf{g}^m = \sigma(\mathbf{W}_3^m \mathbf{u} + \mathbf{b}_3^m)

        \mathbf{z} &= \mathbf{s} + \frac{1}{M} \sum_m \mathbf{g}^m \odot (\mathbf{x}^m - \mathbf{s})
            \quad \text{(paper)}, \qquad
        \mathbf{z} = \frac{1}{M + 1} \Big( \mathbf{s} + \sum_m \mathbf{g}^m \odot (\mathbf{x}^m - \mathbf{s}) \Big)
            \quad \text{(code)}

    with the node's behaviour vector :math:`\mathbf{u}` as the query. The paper's form is known from secondary sources; the other is
    that of the authors' code, written for two modalities.

    Args:
        dim: Width of tokens and queries.
        num_tokens: Number of modalities M, each with its own gate.
        scale: ``"paper"`` or ``"code"``.

    Shapes:
        - **input:** tokens ``[N, M, D]``, mask ``[N, M]``, query ``[N, D]``
        - **output:** ``[N, D]``; zeros for a row without tokens. Weights ``[N, M]`` are :math:`a`
    """

    def __init__(self, dim: int, num_tokens: int, *, scale: Literal["paper", "code"] = "code") -> None:
        super().__init__()
        if scale not in ("paper", "code"):
            raise UsageError(f"scale must be 'paper' or 'code', but is {scale!r}")
        self.scale = scale
        self.share = GateFusion(dim, hidden=dim)  # W4, b4, q
        self.gates = nn.Linear(dim, num_tokens * dim)  # W3 and b3 of all modalities

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the modalities of every node by its behaviour.

        Raises:
            UsageError: There is no query.
        """
        if query is None:
            raise UsageError("behaviour-aware fusion needs a query, the node's behaviour; pass one vector for every row of tokens")
        tokens = hide_missing(tokens, mask)
        shared, weights = self.share(tokens, mask, return_weights=True)
        gates = self.gates(query).sigmoid().view(tokens.shape)
        specific = hide_missing(tokens - shared.unsqueeze(-2), mask)
        preferred = (gates * specific).sum(-2)
        num_tokens = tokens.shape[-2]
        fused = shared + preferred / num_tokens if self.scale == "paper" else (shared + preferred) / (num_tokens + 1)
        return (fused, weights) if return_weights else fused
