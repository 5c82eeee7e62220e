"""One modality: a table of feature vectors and the mask of those present."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gmmrec.data.tokens import TokenNames
from gmmrec.errors import UsageError


@dataclass(frozen=True)
class FeatureTable:
    """Features of one modality, one row per node.

    A missing image is False in the mask, never a zero vector or another row. Values are set to zero where the mask is False, so
    that they cannot be read by accident.

    Attributes:
        name: Name of the modality, such as ``"image"``.
        values: Vectors ``[N, D]``, or ``[N, T, D]`` with a token axis (regions, words); float32.
        mask: Mask of shape ``values.shape[:-1]``, True where a value is present; all True if not given.
        node_type: Node type of the rows.
        tokens: Names of the tokens, for explanations; None if unknown.

    Raises:
        UsageError: Shapes do not fit, or a present value is NaN or infinite.
    """

    name: str
    values: Tensor
    mask: Tensor = None  # type: ignore[assignment]
    node_type: str = "item"
    tokens: TokenNames | None = None

    def __post_init__(self) -> None:
        if self.values.dim() not in (2, 3):
            raise UsageError(f"features {self.name!r} must be [N, D] or [N, T, D], but have shape {tuple(self.values.shape)}")
        mask = self.mask
        if mask is None:
            mask = torch.ones(self.values.shape[:-1], dtype=torch.bool, device=self.values.device)
        if mask.shape != self.values.shape[:-1] or mask.dtype != torch.bool:
            raise UsageError(
                f"the mask of features {self.name!r} must be boolean with shape {tuple(self.values.shape[:-1])}, "
                f"but is {mask.dtype} with shape {tuple(mask.shape)}"
            )
        values = self.values.float()
        if not bool(mask.all()):
            values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
        if not bool(torch.isfinite(values).all()):
            row = int(torch.nonzero(~torch.isfinite(values))[0, 0])
            raise UsageError(f"features {self.name!r} hold NaN or infinity in row {row}; fix the row or mask it as missing")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)

    @property
    def num_rows(self) -> int:
        """Number of nodes, with the modality present or missing."""
        return self.values.shape[0]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.values.shape[-1]

    @property
    def present(self) -> Tensor:
        """Mask of the nodes with the modality present ``[N]``: those with at least one token."""
        return self.mask if self.mask.dim() == 1 else self.mask.any(-1)

    @cached_property
    def pooled(self) -> Tensor:
        """One vector per node ``[N, D]``: the mean of its tokens that are present, zeros where there is none.

        >>> FeatureTable("words", torch.tensor([[[2.0], [4.0], [0.0]]]), torch.tensor([[True, True, False]])).pooled
        tensor([[3.]])
        """
        if self.values.dim() == 2:
            return self.values
        return self.values.sum(1) / self.mask.sum(1, keepdim=True).clamp(min=1)  # masked tokens are zero

    @cached_property
    def unit(self) -> Tensor:
        """The pooled vectors with unit L2 norm ``[N, D]``; zeros stay zeros. Computed once, then cached.

        >>> FeatureTable("image", torch.tensor([[3.0, 4.0], [0.0, 0.0]])).unit
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
        """
        return torch.nn.functional.normalize(self.pooled, dim=-1)

    @cached_property
    def lengths(self) -> Tensor:
        """L2 norm of every vector ``[N]`` or ``[N, T]``, 0 where missing. Computed once, then cached.

        >>> FeatureTable("words", torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])).lengths
        tensor([[5., 1.]])
        """
        lengths: Tensor = torch.linalg.vector_norm(self.values, dim=-1)
        return lengths

    def to(self, device: torch.device | str) -> "FeatureTable":
        """Return a copy on another device."""
        return replace(self, values=self.values.to(device), mask=self.mask.to(device))
