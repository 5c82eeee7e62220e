"""Lists: ordered rows for each of many groups, as two flat tensors (what was shown in every impression, say)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lists:
    """``values`` of every group in their order, repeats allowed, one group behind the other.

    Attributes:
        indptr: Where each group begins and ends ``[G + 1]`` (int64).
        values: Rows ``[n]`` (int64); group ``g`` owns ``values[indptr[g]:indptr[g + 1]]``.
    """

    indptr: Tensor
    values: Tensor

    @classmethod
    def from_groups(cls, group: Tensor, value: Tensor, num_groups: int) -> "Lists":
        """Collects pairs ``[n]``; the values of a group stay in the order in which they come.

        >>> Lists.from_groups(torch.tensor([1, 0, 1]), torch.tensor([7, 5, 2]), 3)
        Lists(indptr=tensor([0, 1, 3, 3]), values=tensor([5, 7, 2]))
        """
        counts = torch.bincount(group, minlength=num_groups)
        return cls(_indptr(counts), value[torch.argsort(group, stable=True)])

    @classmethod
    def from_sequences(cls, rows: Sequence[Tensor]) -> "Lists":
        """One group a tensor ``[n_g]``."""
        counts = torch.tensor([len(row) for row in rows], dtype=torch.long)
        return cls(_indptr(counts), torch.cat([torch.empty(0, dtype=torch.long), *rows]))

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

    def places(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Where the values of some groups ``[g]`` stand: positions ``[m]`` among all values, and the new ``indptr`` ``[g + 1]``."""
        counts = self.counts[groups]
        indptr = _indptr(counts)
        offsets = torch.repeat_interleave(self.indptr[groups] - indptr[:-1], counts)
        return torch.arange(offsets.numel(), device=offsets.device) + offsets, indptr

    def take(self, groups: Tensor) -> "Lists":
        """The lists of some groups ``[g]``, in that order (repeats allowed).

        >>> Lists(torch.tensor([0, 1, 3]), torch.tensor([5, 7, 2])).take(torch.tensor([1, 0]))
        Lists(indptr=tensor([0, 2, 3]), values=tensor([7, 2, 5]))
        """
        place, indptr = self.places(groups)
        return Lists(indptr, self.values[place])

    def last(self, length: int) -> tuple[Tensor, Tensor]:
        """The last values of every group, the newest in the last column, and where there are any.

        Args:
            length: Columns at most; fewer where all groups are shorter (at least one).

        Returns:
            Values ``[G, L]``, 0 in front of short lists, and a mask ``[G, L]``.

        >>> Lists(torch.tensor([0, 1, 4]), torch.tensor([5, 7, 2, 9])).last(2)
        (tensor([[0, 5],
                [2, 9]]), tensor([[False,  True],
                [ True,  True]]))
        """
        return windows(self.values, self.indptr[:-1], self.indptr[1:], length)

    def to(self, device: torch.device | str) -> "Lists":
        """A copy on another device."""
        return replace(self, indptr=self.indptr.to(device), values=self.values.to(device))


def windows(values: Tensor, first: Tensor, end: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The values ``[B, L]`` at positions ``first … end - 1``, the last of them if there are more than ``length``, and their mask.

    Windows end in the last column; the places in front of short ones hold 0. ``L`` is the longest window, but at least 1.

    Args:
        values: All values ``[n]``.
        first: Where each window may begin ``[B]``.
        end: Where it ends ``[B]``, not included.
        length: Longest window.
    """
    longest = int((end - first).max()) if end.numel() else 0
    width = max(1, min(length, longest))
    place = end[:, None] - torch.arange(width, 0, -1, device=end.device)
    mask = place >= first[:, None]
    if not values.numel():
        return torch.zeros_like(place), mask
    return values[place.clamp(min=0)].masked_fill(~mask, 0), mask


def _indptr(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
