"""Inner-product decoder."""

from torch import Tensor


def inner_product(queries: Tensor, candidates: Tensor) -> Tensor:
    """Score every candidate for its query.

    Args:
        queries: ``[B, D]``.
        candidates: ``[C, D]``, shared by all queries, or ``[B, C, D]``.

    Returns:
        Scores ``[B, C]``.

    >>> import torch
    >>> inner_product(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([[1., 2.]])
    """
    if candidates.dim() == 2:
        return queries @ candidates.t()
    return (candidates @ queries.unsqueeze(-1)).squeeze(-1)
