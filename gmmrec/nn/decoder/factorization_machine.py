"""The factorisation machine on pairs of vectors."""

import torch
from torch import Tensor, nn

from gmmrec.nn.decoder.inner_product import inner_product


class FactorizationMachine(nn.Module):
    r"""Scores a pair by all products of two of its numbers, :math:`\mathbf{x} = [\mathbf{q} \| \mathbf{c}]` (Rendle, ICDM 2010).

    .. math:: \langle \mathbf{w}, \mathbf{x} \rangle + \sum_{a < b} \langle \mathbf{v}_a, \mathbf{v}_b \rangle\, x_a x_b

    The second term is :math:`\frac12 \| \mathbf{V}^\top \mathbf{x} \|^2 - \frac12 \sum_a \| \mathbf{v}_a \|^2 x_a^2`, which is a
    number of the query, one of the candidate, and the inner product of both in the space of factors: nothing wider is held for a
    pair. The global offset is left out: it is the same for all.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate; that of a query where not given.
        factors: Width of :math:`\mathbf{v}`.

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]`` for all of them, or ``[B, C, candidate_dim]``
        - **output:** ``[B, C]``
    """

    def __init__(self, query_dim: int, candidate_dim: int | None = None, *, factors: int = 8) -> None:
        super().__init__()
        dims = query_dim, candidate_dim or query_dim
        self.weights = nn.ParameterList(nn.init.normal_(torch.empty(dim), std=0.1) for dim in dims)
        self.factors = nn.ParameterList(nn.init.normal_(torch.empty(dim, factors), std=0.1) for dim in dims)

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores every candidate for its query."""
        of_query, of_candidate = self._alone(queries, 0), self._alone(candidates, 1)
        return of_query[:, None] + of_candidate + inner_product(queries @ self.factors[0], candidates @ self.factors[1])

    def _alone(self, x: Tensor, side: int) -> Tensor:
        """What the numbers of one side, and products of two of them, add."""
        weight, factors = self.weights[side], self.factors[side]
        total: Tensor = x @ weight + ((x @ factors).square().sum(-1) - x.square() @ factors.square().sum(1)) / 2
        return total
