"""Factorisation machine on pairs of vectors."""

import torch
from torch import Tensor, nn

from gmmrec.nn.decoder.inner_product import inner_product


class FactorizationMachine(nn.Module):
    r"""Score from all pairwise products of the features :math:`\mathbf{x} = [\mathbf{q} \| \mathbf{c}]` (Rendle, ICDM 2010).

    .. math:: \langle \mathbf{w}, \mathbf{x} \rangle + \sum_{a < b} \langle \mathbf{v}_a, \mathbf{v}_b \rangle\, x_a x_b

    The second term is :math:`\frac12 \| \mathbf{V}^\top \mathbf{x} \|^2 - \frac12 \sum_a \| \mathbf{v}_a \|^2 x_a^2`: a scalar of
    the query, a scalar of the candidate, and their inner product in factor space, so nothing wider is held per pair. The global
    bias is omitted, because it is the same for all pairs.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate (default: ``query_dim``).
        factors: Width of :math:`\mathbf{v}`.

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]``, shared by all, or ``[B, C, candidate_dim]``
        - **output:** ``[B, C]``
    """

    def __init__(self, query_dim: int, candidate_dim: int | None = None, *, factors: int = 8) -> None:
        super().__init__()
        dims = query_dim, candidate_dim or query_dim
        self.weights = nn.ParameterList(nn.init.normal_(torch.empty(dim), std=0.1) for dim in dims)
        self.factors = nn.ParameterList(nn.init.normal_(torch.empty(dim, factors), std=0.1) for dim in dims)

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Score every candidate for its query."""
        query_term, candidate_term = self._one_side(queries, 0), self._one_side(candidates, 1)
        return query_term[:, None] + candidate_term + inner_product(queries @ self.factors[0], candidates @ self.factors[1])

    def _one_side(self, x: Tensor, side: int) -> Tensor:
        """Compute the linear terms of one side and the products within it."""
        weight, factors = self.weights[side], self.factors[side]
        total: Tensor = x @ weight + ((x @ factors).square().sum(-1) - x.square() @ factors.square().sum(1)) / 2
        return total
