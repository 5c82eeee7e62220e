"""Initial values of embedding tables."""

import torch
from torch import Tensor, nn


def embedding_table(num_rows: int, dim: int, std: float) -> nn.Parameter:
    """Create a table ``[num_rows, dim]``, normally distributed, or Xavier uniform if ``std`` is 0.

    Both are in use for the same models and lead to different results: Xavier's values are an order of magnitude smaller.

    >>> tuple(embedding_table(3, 2, 0.1).shape)
    (3, 2)
    """
    table: Tensor = torch.empty(num_rows, dim)
    return nn.Parameter(nn.init.normal_(table, std=std) if std else nn.init.xavier_uniform_(table))


def truncated_normal_(module: nn.Module, std: float) -> None:
    """Reinitialise all matrices of a module from a normal distribution truncated at two standard deviations; set biases to 0.

    This is BERT's initialisation. Source: the released code of BERT4Rec (Sun et al., CIKM 2019). Matrices are parameters with two
    or more axes, tables included; weights of normalisation layers stay as they are.

    >>> layer = nn.Linear(3, 2)
    >>> truncated_normal_(layer, 0.02)
    >>> bool(layer.weight.abs().max() <= 0.04), layer.bias.tolist()
    (True, [0.0, 0.0])
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
