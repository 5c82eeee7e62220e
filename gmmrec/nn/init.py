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


def truncated_normal_(module: nn.Module, std: float) -> None:
    """Draws all matrices of a module anew, from a normal distribution cut at two standard deviations, and sets biases to 0.

    So BERT begins. Source: the released code of BERT4Rec (Sun et al., CIKM 2019). Matrices are parameters of two axes or more,
    tables included; weights of normalisations stay.

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
