"""Columns at mean 0 and deviation 1, by numbers that are kept with a model."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    r"""Brings columns to mean 0 and standard deviation 1, as they had them when it was fitted.

    The numbers are buffers, not weights: a model that fits them on the whole graph treats a part of it, or a newcomer, alike.

    Args:
        dim: Number of columns.

    Shapes:
        - **input:** ``[..., D]``
        - **output:** ``[..., D]``

    >>> standardize = Standardize(2)
    >>> standardize.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0], [100.0, 0.0]]), torch.tensor([True, True, False]))
    >>> standardize(torch.tensor([[3.0, 5.0]]))
    tensor([[1., 0.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    @torch.no_grad()
    def fit(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Takes mean and deviation of the rows ``[N, D]`` that are there ``[N]``; without any it stays as it is."""
        rows = x if mask is None else x[mask]
        if not len(rows):
            return
        variance, mean = torch.var_mean(rows.double(), dim=0, correction=0)
        scale = variance.sqrt()
        self.mean = mean.to(self.mean)
        self.scale = torch.where(scale > 1e-6 * mean.abs().clamp(min=1.0), scale, 1.0).to(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Standardises; what was constant becomes 0."""
        return (x - self.mean) / self.scale
