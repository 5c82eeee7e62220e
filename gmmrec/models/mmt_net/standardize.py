"""Standardisation of columns with statistics stored in the model."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    r"""Standardisation of columns to mean 0 and standard deviation 1, with statistics of the data it was fitted on.

    The statistics are buffers, not weights: fitted on the whole graph, they apply to a subgraph or a new node unchanged.

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
        """Fit mean and deviation on the rows ``[N, D]`` in ``mask`` ``[N]``; without any row the statistics are unchanged."""
        rows = x if mask is None else x[mask]
        if not len(rows):
            return
        variance, mean = torch.var_mean(rows.double(), dim=0, correction=0)
        scale = variance.sqrt()
        self.mean = mean.to(self.mean)
        self.scale = torch.where(scale > 1e-6 * mean.abs().clamp(min=1.0), scale, 1.0).to(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise; a column constant at fit time is only centred."""
        return (x - self.mean) / self.scale
