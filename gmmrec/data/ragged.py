"""Ragged arrays: the rows of many groups in two flat tensors, as sets or ordered lists."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

AnyRagged = TypeVar("AnyRagged", bound="Ragged")


@dataclass(frozen=True)
class Ragged:
    """Concatenated values of groups: the common part of :class:`RaggedSets` and :class:`RaggedLists`.

    Attributes:
        indptr: Offsets of the groups ``[G + 1]`` (int64).
        values: Rows ``[n]`` (int64); group ``g`` owns ``values[indptr[g]:indptr[g + 1]]``.
    """

    indptr: Tensor
    values: Tensor

    def __len__(self) -> int:
        return self.indptr.numel() - 1

    @property
    def counts(self) -> Tensor:
        """Number of values of every group ``[G]``."""
        return self.indptr.diff()

    @property
    def groups(self) -> Tensor:
        """Group of every value ``[n]``."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.values.device), self.counts)

    def positions(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions ``[m]`` of the values of some groups ``[g]``, and their ``indptr`` ``[g + 1]``."""
        counts = self.counts[groups]
        indptr = _indptr(counts)
        offsets = torch.repeat_interleave(self.indptr[groups] - indptr[:-1], counts)
        return torch.arange(offsets.numel(), device=offsets.device) + offsets, indptr

    def take(self: AnyRagged, groups: Tensor) -> AnyRagged:
        """Return the values of some groups ``[g]``, in that order (repeats allowed).

        >>> RaggedSets(torch.tensor([0, 1, 3]), torch.tensor([5, 2, 7])).take(torch.tensor([1, 0, 1]))
        RaggedSets(indptr=tensor([0, 2, 3, 5]), values=tensor([2, 7, 5, 2, 7]))
        """
        position, indptr = self.positions(groups)
        return replace(self, indptr=indptr, values=self.values[position])

    def to(self: AnyRagged, device: torch.device | str) -> AnyRagged:
        """Return a copy on another device."""
        return replace(self, indptr=self.indptr.to(device), values=self.values.to(device))


@dataclass(frozen=True)
class RaggedSets(Ragged):
    """A set of rows for each group, such as the items of every user: distinct ``values``, ascending within a group."""

    @classmethod
    def from_pairs(cls, group: Tensor, value: Tensor, num_groups: int) -> "RaggedSets":
        """Build from pairs ``[n]`` in any order, without repeats.

        >>> RaggedSets.from_pairs(torch.tensor([1, 0, 1, 1]), torch.tensor([7, 5, 2, 7]), 3)
        RaggedSets(indptr=tensor([0, 1, 3, 3]), values=tensor([5, 2, 7]))
        """
        width = int(value.max()) + 1 if value.numel() else 1
        keys = torch.unique(group * width + value)
        return cls(_indptr(torch.bincount(keys // width, minlength=num_groups)), keys % width)

    def contains(self, group: Tensor, value: Tensor) -> Tensor:
        """Return whether each ``value`` ``[...]`` belongs to its ``group`` ``[...]`` (broadcast against each other).

        >>> sets = RaggedSets(torch.tensor([0, 1, 3]), torch.tensor([5, 2, 7]))
        >>> sets.contains(torch.tensor([[0], [1]]), torch.tensor([[5, 7]]))
        tensor([[ True, False],
                [False,  True]])
        """
        group, value = torch.broadcast_tensors(group, value)
        if not self.values.numel():
            return torch.zeros(value.shape, dtype=torch.bool, device=value.device)
        width = max(int(self.values.max()), int(value.max()) if value.numel() else 0) + 1
        keys = self.groups * width + self.values
        query = group * width + value
        position = torch.searchsorted(keys, query).clamp_(max=keys.numel() - 1)
        return keys[position] == query


@dataclass(frozen=True)
class RaggedLists(Ragged):
    """An ordered list of rows for each group, such as the items of every impression: repeats allowed."""

    @classmethod
    def from_groups(cls, group: Tensor, value: Tensor, num_groups: int) -> "RaggedLists":
        """Build from pairs ``[n]``; the values of a group keep their order.

        >>> RaggedLists.from_groups(torch.tensor([1, 0, 1]), torch.tensor([7, 5, 2]), 3)
        RaggedLists(indptr=tensor([0, 1, 3, 3]), values=tensor([5, 7, 2]))
        """
        counts = torch.bincount(group, minlength=num_groups)
        return cls(_indptr(counts), value[torch.argsort(group, stable=True)])

    @classmethod
    def from_sequences(cls, rows: Sequence[Tensor]) -> "RaggedLists":
        """Build one group per tensor ``[n_g]``."""
        counts = torch.tensor([len(row) for row in rows], dtype=torch.long)
        return cls(_indptr(counts), torch.cat([torch.empty(0, dtype=torch.long), *rows]))

    def last(self, length: int) -> tuple[Tensor, Tensor]:
        """Return the last values of every group, the newest in the last column, and a mask of those present.

        Args:
            length: Maximum number of columns; fewer if all groups are shorter (at least one).

        Returns:
            Values ``[G, L]``, left padded with 0, and a mask ``[G, L]``.

        >>> RaggedLists(torch.tensor([0, 1, 4]), torch.tensor([5, 7, 2, 9])).last(2)
        (tensor([[0, 5],
                [2, 9]]), tensor([[False,  True],
                [ True,  True]]))
        """
        return windows(self.values, self.indptr[:-1], self.indptr[1:], length)


def windows(values: Tensor, first: Tensor, end: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the values ``[B, L]`` at positions ``first … end - 1``, at most the last ``length`` of them, and their mask.

    Windows are left padded with 0. ``L`` is the length of the longest window, but at least 1.

    Args:
        values: All values ``[n]``.
        first: First position of each window ``[B]``.
        end: End of each window ``[B]``, exclusive.
        length: Maximum length of a window.
    """
    longest = int((end - first).max()) if end.numel() else 0
    width = max(1, min(length, longest))
    position = end[:, None] - torch.arange(width, 0, -1, device=end.device)
    mask = position >= first[:, None]
    if not values.numel():
        return torch.zeros_like(position), mask
    return values[position.clamp(min=0)].masked_fill(~mask, 0), mask


def _indptr(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
