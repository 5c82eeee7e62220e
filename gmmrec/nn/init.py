"""Initial values of embedding tables."""

import torch
from torch import Tensor, nn


def embedding_table(num_rows: int, dim: int, std: float) -> nn.Parameter:
    """A table ``[num_rows, dim]`` drawn from a normal distribution, or by Xavier's uniform rule where ``std`` is 0.

    The two are both in use for the same models and lead to different results: Xavier's values are an order of magnitude smaller.

    >>> tuple(embedding_table(3, 2, 0.1).shape)
    (3, 2)
    """
    table: Tensor = torch.empty(num_rows, dim)
    return nn.Parameter(nn.init.normal_(table, std=std) if std else nn.init.xavier_uniform_(table))
