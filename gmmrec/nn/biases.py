"""Rating biases of users and items in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor


class Biases(NamedTuple):
    """The mean rating, a scalar, and the offsets of users ``[U]`` and items ``[I]`` (float64)."""

    mean: Tensor
    users: Tensor
    items: Tensor


def rating_biases(
    user: Tensor, item: Tensor, rating: Tensor, sizes: tuple[int, int], *, shrinkage: float, num_rounds: int = 10
) -> Biases:
    r"""Fit the biases of :math:`\mu + b_u + b_i` (Koren, Bell & Volinsky, IEEE Computer 2009, equation 3).

    .. math::
        b_i = \frac{\sum_{u \in i} (r_{ui} - \mu - b_u)}{n_i + \lambda}, \qquad
        b_u = \frac{\sum_{i \in u} (r_{ui} - \mu - b_i)}{n_u + \lambda}

    alternately, starting from :math:`b_u = 0`. They converge to the minimum of the squared error plus
    :math:`\lambda (\sum_u b_u^2 + \sum_i b_i^2)`, because each step is the exact minimum given the other biases.

    Args:
        user: User of every rating ``[E]``.
        item: Item of every rating ``[E]``.
        rating: Ratings ``[E]``.
        sizes: Number of users and of items; those without ratings get 0.
        shrinkage: :math:`\lambda`, at least 0.
        num_rounds: Number of alternations.

    >>> user, item, rating = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.tensor([5.0, 3.0, 4.0])
    >>> rating_biases(user, item, rating, (3, 2), shrinkage=1, num_rounds=1).items    # 1 / 3 and -1 / 2
    tensor([ 0.3333, -0.5000], dtype=torch.float64)
    """
    rating = rating.double()
    mean = rating.mean() if rating.numel() else rating.new_zeros(())
    users, items = (rating.new_zeros(size) for size in sizes)
    for _ in range(num_rounds):
        items = _shrunk_mean(rating - mean - users[user], item, len(items), shrinkage)
        users = _shrunk_mean(rating - mean - items[item], user, len(users), shrinkage)
    return Biases(mean, users, items)


def _shrunk_mean(residual: Tensor, owner: Tensor, count: int, shrinkage: float) -> Tensor:
    total = residual.new_zeros(count).index_add_(0, owner, residual)
    weight = torch.bincount(owner, minlength=count) + shrinkage
    return torch.where(weight > 0, total / weight, 0.0)
