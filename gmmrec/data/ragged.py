"""Ragged: a set of rows for each of many groups, as two flat tensors (the items of every user, say)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Distinct, ascending ``values`` of every group, one group behind the other.

    Attributes:
        indptr: Where each group begins and ends ``[G + 1]`` (int64).
        values: Rows ``[n]`` (int64); group ``g`` owns ``values[indptr[g]:indptr[g + 1]]``.
    """

    indptr: Tensor
    values: Tensor

    @classmethod
    def from_pairs(cls, group: Tensor, value: Tensor, num_groups: int) -> "Ragged":
        """Collects pairs ``[n]`` in any order, repeats dropped.

        >>> Ragged.from_pairs(torch.tensor([1, 0, 1, 1]), torch.tensor([7, 5, 2, 7]), 3)
        Ragged(indptr=tensor([0, 1, 3, 3]), values=tensor([5, 2, 7]))
        """
        width = int(value.max()) + 1 if value.numel() else 1
        keys = torch.unique(group * width + value)
        counts = torch.bincount(keys // width, minlength=num_groups)
        return cls(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), keys % width)

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

    def take(self, groups: Tensor) -> "Ragged":
        """The sets of some groups ``[g]``, in that order (repeats allowed).

        >>> Ragged(torch.tensor([0, 1, 3]), torch.tensor([5, 2, 7])).take(torch.tensor([1, 0, 1]))
        Ragged(indptr=tensor([0, 2, 3, 5]), values=tensor([2, 7, 5, 2, 7]))
        """
        counts = self.counts[groups]
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        offsets = torch.repeat_interleave(self.indptr[groups] - indptr[:-1], counts)
        return Ragged(indptr, self.values[torch.arange(offsets.numel(), device=offsets.device) + offsets])

    def contains(self, group: Tensor, value: Tensor) -> Tensor:
        """Whether each ``value`` ``[...]`` belongs to its ``group`` ``[...]`` (broadcast against each other).

        >>> Ragged(torch.tensor([0, 1, 3]), torch.tensor([5, 2, 7])).contains(torch.tensor([[0], [1]]), torch.tensor([[5, 7]]))
        tensor([[ True, False],
                [False,  True]])
        """
        group, value = torch.broadcast_tensors(group, value)
        if not self.values.numel():
            return torch.zeros(value.shape, dtype=torch.bool, device=value.device)
        width = max(int(self.values.max()), int(value.max()) if value.numel() else 0) + 1
        keys = self.groups * width + self.values
        wanted = group * width + value
        position = torch.searchsorted(keys, wanted).clamp_(max=keys.numel() - 1)
        return keys[position] == wanted

    def to(self, device: torch.device | str) -> "Ragged":
        """A copy on another device."""
        return replace(self, indptr=self.indptr.to(device), values=self.values.to(device))
