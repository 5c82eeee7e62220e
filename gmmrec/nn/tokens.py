"""Tokens of several modalities, one behind the other."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self


class Tokens(NamedTuple):
    """Tokens of some nodes, all modalities of a node in one row.

    >>> words, picture = torch.ones(3, 2, 4), torch.zeros(3, 1, 4)
    >>> tokens = Tokens.joined([(words, torch.ones(3, 2, dtype=torch.bool)), (picture, torch.arange(3) > 0)])
    >>> tokens.sizes, tokens.at(torch.tensor([[0], [2]])).present.tolist()
    ([2, 1], [[[True, True, False]], [[True, True, True]]])
    """

    values: Tensor
    """``[..., T, d]``."""
    present: Tensor
    """``[..., T]``, bool."""
    sizes: list[int]
    """Number of tokens of every modality."""

    @classmethod
    def joined(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> Self:
        """From the tokens ``[n, T, d]`` of every modality, and which exist: ``[n, T]``, or ``[n]`` for all of a node's."""
        values, present = [tokens for tokens, _ in parts], [mask if mask.dim() == 2 else mask.unsqueeze(1) for _, mask in parts]
        masks = [there.expand(tokens.shape[:2]) for tokens, there in zip(values, present, strict=True)]
        return cls(torch.cat(values, 1), torch.cat(masks, 1), [tokens.shape[1] for tokens in values])

    def at(self, rows: Tensor) -> Self:
        """Those of the nodes in rows ``[...]`` of ``[N, T, d]``."""
        values = F.embedding(rows, self.values.flatten(1)).unflatten(-1, self.values.shape[1:])
        return self._replace(values=values, present=self.present[rows])

    @property
    def mask(self) -> Tensor | None:
        """Which exist; None where no token is missing: attention is faster so."""
        return None if bool(self.present.all()) else self.present
