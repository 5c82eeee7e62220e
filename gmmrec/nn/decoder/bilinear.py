"""The bilinear decoder."""

import torch
from torch import Tensor, nn

from gmmrec.nn.decoder.inner_product import inner_product


class BilinearDecoder(nn.Module):
    r"""Scores by :math:`\mathbf{q}^\top \mathbf{W} \mathbf{c}`, so that queries and candidates need not live in one space.

    With :math:`\mathbf{W}` the identity, from which it starts where both are equally wide, this is the inner product.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate; that of a query where not given.

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]`` for all of them, or ``[B, C, candidate_dim]``
        - **output:** ``[B, C]``
    """

    def __init__(self, query_dim: int, candidate_dim: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(query_dim, candidate_dim or query_dim))
        if self.weight.shape[0] == self.weight.shape[1]:
            nn.init.eye_(self.weight)
        else:
            nn.init.xavier_uniform_(self.weight)

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Maps the queries, which are few, and takes inner products."""
        return inner_product(queries @ self.weight, candidates)
