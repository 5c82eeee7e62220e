"""Metrics of the lists as a whole: coverage, novelty and diversity.

All take ``top`` ``[Q, K]``, the rows recommended to every query, -1 where a list is shorter; none looks at what is relevant.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def coverage(top: Tensor, num_items: int) -> float:
    """Share of the catalogue that is recommended to at least one user.

    >>> coverage(torch.tensor([[0, 1], [1, -1]]), 4)
    0.5
    """
    recommended: Tensor = torch.unique(top[top >= 0])
    return recommended.numel() / num_items


def novelty(top: Tensor, count: Tensor) -> Tensor:
    r"""Mean self-information of the recommended items in bits, :math:`-\log_2 p(i)`.

    :math:`p(i)` is the item's share of all training interactions; an item without any counts as one with a single interaction, for
    its information would be infinite. Source: Zhou et al., PNAS 2010; Castells et al., Recommender Systems Handbook, 2015.

    Args:
        top: ``[Q, K]``.
        count: Training interactions of every item ``[I]``.

    Returns:
        ``[Q]``; NaN for an empty list.

    >>> novelty(torch.tensor([[0, 1], [1, -1]]), torch.tensor([4.0, 2.0, 2.0]))    # 1 bit and 2 bits, 2 bits
    tensor([1.5000, 2.0000])
    """
    information = torch.log2(count.sum() / count.clamp(min=1))
    present = top >= 0
    return (information[top.clamp(min=0)] * present).sum(-1) / present.sum(-1)


def diversity(top: Tensor, vectors: Tensor) -> Tensor:
    r"""Mean distance :math:`1 - \cos(i, j)` over all pairs of different items of a list. Source: Ziegler et al., WWW 2005.

    Computed from the sum of the unit vectors: no pair and no ``[Q, K, D]`` is ever held. Items with a zero vector (no features)
    take no part.

    Args:
        top: ``[Q, K]``.
        vectors: Features or representations of the items ``[I, D]``.

    Returns:
        ``[Q]``; NaN where a list holds fewer than two items with a vector.

    >>> diversity(torch.tensor([[0, 1, 2], [0, 2, -1]]), torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]))
    tensor([0.6667, 0.0000])
    """
    unit = F.pad(F.normalize(vectors), (0, 0, 0, 1))  # one row of zeros for -1
    total = F.embedding_bag(torch.where(top < 0, vectors.shape[0], top), unit, mode="sum")  # [Q, D]
    has_vector = F.pad(vectors.any(-1), (0, 1))
    count = has_vector[top].sum(-1)  # -1 reads the row of zeros
    pairs = count * (count - 1)
    return 1 - (total.square().sum(-1) - count) / torch.where(pairs > 0, pairs, torch.nan)
