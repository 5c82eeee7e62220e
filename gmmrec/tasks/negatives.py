"""Negatives: items a user is not known to like, drawn to be ranked below those they do like."""

import logging

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError, quote_names

logger = logging.getLogger(__name__)


class UniformNegatives:
    r"""Uniform sampler of items from a pool, without those that the user has seen.

    There is no rejection. For a user with :math:`n` allowed items a rank :math:`r \in [0, n)` is drawn, and the
    :math:`r`-th allowed item is found by one binary search: with the user's seen items at the ascending pool positions
    :math:`s_0 < s_1 < \dots`, it stands at position :math:`r + |\{k : s_k - k \le r\}|`.

    Args:
        seen: Items per user that must not be drawn: the training positives.
        pool: Items to draw from: rows ``[n]``, or their number if every item ``0 … pool - 1`` may be drawn.

    Raises:
        UsageError: The pool is empty.
    """

    def __init__(self, seen: RaggedSets, pool: Tensor | int) -> None:
        self._items = None if isinstance(pool, int) else torch.unique(pool)
        self._size = pool if isinstance(pool, int) else int(torch.unique(pool).numel())
        if self._size < 1:
            raise UsageError("the pool of negatives is empty; expected at least one item")
        user, item = seen.groups, seen.values
        if self._items is None:
            user, position = user[item < self._size], item[item < self._size]
        else:
            position = torch.searchsorted(self._items, item).clamp_(max=self._size - 1)
            inside = self._items[position] == item
            user, position = user[inside], position[inside]
        counts = torch.bincount(user, minlength=len(seen))
        self._begin = counts.cumsum(0) - counts
        self._allowed = self._size - counts
        earlier = torch.arange(user.numel()) - self._begin[user]  # seen items before this one: the k of s_k
        self._keys = user * self._size + position - earlier
        self._has_exhausted = bool((self._allowed <= 0).any())

    def __len__(self) -> int:
        """Number of items in the pool."""
        return self._size

    def exhausted(self, user: Tensor) -> Tensor:
        """Return whether users ``[B]`` have seen the whole pool, so that nothing can be drawn for them."""
        return self._allowed[user] <= 0

    def draw(self, user: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw negatives ``[B, count]`` for users ``[B]``, with replacement.

        Raises:
            UsageError: A user has seen the whole pool; tasks leave such users out (:func:`drawable`).
        """
        allowed = self._allowed[user]
        if self._has_exhausted and bool((allowed <= 0).any()):
            row = int(user[allowed <= 0][0])
            raise UsageError(f"user row {row} has seen all {self._size} items that negatives are drawn from; leave this user out")
        uniform = torch.rand(user.numel(), count, dtype=torch.float64, generator=generator)
        rank = (uniform * allowed[:, None]).long()  # 53 random bits: no rank is favoured by more than 2^-53 * n
        before = torch.searchsorted(self._keys, user[:, None] * self._size + rank, right=True) - self._begin[user][:, None]
        position = rank + before
        return position if self._items is None else self._items[position]


def drawable(
    negatives: UniformNegatives, owner: Tensor, names: Vocabulary | None = None, *, owners: str = "users", remedy: str = ""
) -> Tensor:
    """Return the positions ``[m]`` of the examples ``[n]`` for which negatives can be drawn, and warn of the rest.

    Args:
        negatives: Sampler of the task.
        owner: User of every example ``[n]``, or what else negatives are drawn for.
        names: Raw ids of the owners, for messages; row numbers without them.
        owners: Word for the owners, in the plural.
        remedy: What else can be done, for the message.

    Raises:
        UsageError: No example is left.
    """
    kept = ~negatives.exhausted(owner)
    if bool(kept.all()):
        return torch.arange(len(owner))
    rows = torch.unique(owner[~kept])
    named = quote_names(rows.tolist() if names is None else names.ids(rows))
    if not bool(kept.any()):
        raise UsageError(
            f"no negatives can be drawn for any of the {len(rows)} {owners} in training ({named}): each has all {len(negatives)} "
            f"items that negatives are drawn from; {remedy or 'add items'}, or use a model without negatives, such as ease"
        )
    logger.warning(
        "%d of the %d training examples are left out: their %s (%s) have all %d items that negatives are drawn from%s",
        *(int((~kept).sum()), len(owner), owners, named, len(negatives), f"; {remedy} to keep them" if remedy else ""),
    )
    return torch.nonzero(kept).flatten()


def uniform_negatives(user: Tensor, seen: RaggedSets, pool: Tensor | int, *, count: int, generator: torch.Generator) -> Tensor:
    """Draw items ``[B, count]`` uniformly from those of the pool that each user has not seen.

    To draw negatives for many batches, keep a :class:`UniformNegatives`, which sorts its keys once.

    Args:
        user: Rows ``[B]``.
        seen: Items per user that must not be drawn.
        pool: Items to draw from: rows ``[n]``, or their number.
        count: Negatives per user.
        generator: Source of randomness.

    Raises:
        UsageError: The pool is empty, or a user has seen all of it.

    >>> seen = RaggedSets(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]))
    >>> uniform_negatives(torch.tensor([0, 0]), seen, 4, count=6, generator=torch.Generator().manual_seed(0)).unique()
    tensor([1, 3])
    """
    return UniformNegatives(seen, pool).draw(user, count, generator)
