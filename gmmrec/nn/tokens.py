"""Concatenated tokens of several modalities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self


class Tokens(NamedTuple):
    """Tokens of nodes, with all modalities of a node in one row.

    >>> words, picture = torch.ones(3, 2, 4), torch.zeros(3, 1, 4)
    >>> tokens = Tokens.joined([(words, torch.ones(3, 2, dtype=torch.bool)), (picture, torch.arange(3) > 0)])
    >>> tokens.sizes, tokens.at(torch.tensor([[0], [2]])).present.tolist()
    ([2, 1], [[[True, True, False]], [[True, True, True]]])
    """

    values: Tensor
    """Tokens ``[..., T, d]``."""
    present: Tensor
    """Mask of the tokens that exist ``[..., T]``, bool."""
    sizes: list[int]
    """Number of tokens of every modality."""

    @classmethod
    def joined(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> Self:
        """Join the tokens ``[n, T, d]`` of every modality and their masks ``[n, T]``, or ``[n]`` for all tokens of a node."""
        values, present = [tokens for tokens, _ in parts], [mask if mask.dim() == 2 else mask.unsqueeze(1) for _, mask in parts]
        masks = [mask.expand(tokens.shape[:2]) for tokens, mask in zip(values, present, strict=True)]
        return cls(torch.cat(values, 1), torch.cat(masks, 1), [tokens.shape[1] for tokens in values])

    def at(self, rows: Tensor) -> Self:
        """Select the tokens of the nodes in rows ``[...]`` of ``[N, T, d]``."""
        values = F.embedding(rows, self.values.flatten(1)).unflatten(-1, self.values.shape[1:])
        return self._replace(values=values, present=self.present[rows])

    @property
    def mask(self) -> Tensor | None:
        """Mask of the tokens that exist; None if none is missing, which makes attention faster."""
        return None if bool(self.present.all()) else self.present
