"""The bilinear decoder."""

import torch
from torch import Tensor, nn

from gmmrec.nn.decoder.inner_product import inner_product


class BilinearDecoder(nn.Module):
    r"""Bilinear scores :math:`\mathbf{q}^\top \mathbf{W} \mathbf{c}` for queries and candidates from different spaces.

    If the widths are equal, :math:`\mathbf{W}` starts as the identity, which yields the inner product.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate (default: ``query_dim``).

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]``, shared by all, or ``[B, C, candidate_dim]``
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
        """Score every candidate for its query; only the queries, which are few, are mapped."""
        return inner_product(queries @ self.weight, candidates)
