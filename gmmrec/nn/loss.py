"""Losses: pure functions from scores and vectors to one number."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking, the mean of ``-ln sigmoid(positive - negative)`` over all pairs.

    Source: Rendle et al., UAI 2009, section 4.

    Args:
        positive: Scores ``[B, 1]``.
        negative: Scores ``[B, K]``.

    >>> bpr(torch.zeros(2, 1), torch.zeros(2, 3))        # ln 2
    tensor(0.6931)
    """
    return F.softplus(negative - positive).mean()


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """Half the squared length of all rows, divided by the number of rows of the first tensor.

    This is the L2 term of LightGCN's public code: layer-0 vectors of the batch only.

    Args:
        *embeddings: ``[B, ..., D]`` each.

    >>> embedding_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    tensor(13.)
    """
    total = torch.stack([e.square().sum() for e in embeddings]).sum()
    return total / (2 * embeddings[0].shape[0])
