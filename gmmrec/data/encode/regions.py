"""A feature map as a grid of regions."""

from torch import Tensor
from torch.nn import functional as F

from gmmrec.errors import UsageError


def regions(maps: Tensor, size: int) -> Tensor:
    """Return a feature map as ``size`` by ``size`` vectors, row by row from the top left.

    Args:
        maps: Feature maps ``[B, D, H, W]``.
        size: Number of regions along each side; larger maps are average-pooled.

    Returns:
        Vectors ``[B, size * size, D]``.

    Raises:
        UsageError: The map is smaller than the grid.

    >>> import torch
    >>> regions(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, :, 0]
    tensor([ 2.5000,  4.5000, 10.5000, 12.5000])
    """
    height, width = maps.shape[2:]
    if not 1 <= size <= min(height, width):
        raise UsageError(
            f"a grid of {size} x {size} regions needs a feature map of that size, but the encoder's is {height} x {width}"
        )
    return F.adaptive_avg_pool2d(maps, size).flatten(2).transpose(1, 2)
