"""Running mean and standard deviation of vectors, and distance to those of a batch."""

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-8
"""Added to every variance, so that the root of a constant column has a finite derivative."""


class RunningMoments(nn.Module):
    r"""Running moments of a module's outputs, with a distance of other outputs from them.

    .. math:: d(\mathbf{X}) = \lVert \mu(\mathbf{X}) - \mu \rVert^2 + \lVert \sigma(\mathbf{X}) - \sigma \rVert^2

    with means and standard deviations by column. The regulariser of the residual transfer of MMT-Net (Krishnan et al., SIGIR 2020),
    of which the paper's summary says that statistics are kept near those of the source; the choice of statistics is a
    reconstruction. The moments are buffers, saved with the weights.

    Args:
        dim: Number of columns.
        momentum: Minimum weight of a batch in the running moments: the first batches have equal weights, later ones decay
            exponentially.

    Shapes:
        - **input:** ``[..., D]``; every vector counts once
        - **output:** of :meth:`distance`, a number

    >>> moments = RunningMoments(1)
    >>> moments.update(torch.tensor([[1.0], [3.0]]))
    >>> moments.mean, moments.std
    (tensor([2.]), tensor([1.]))
    >>> moments.distance(torch.tensor([[3.0], [9.0]]))        # mean 6, deviation 3: 16 + 4
    tensor(20.)
    """

    mean: Tensor
    square: Tensor
    batches: Tensor

    def __init__(self, dim: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.zeros(dim))  # mean of the squares
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @property
    def std(self) -> Tensor:
        """Population standard deviation of every column ``[D]``."""
        return _deviation(self.mean, self.square)

    @property
    def is_empty(self) -> bool:
        """True before the first update."""
        return int(self.batches) == 0

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Update the running moments with a batch of vectors."""
        mean, square = _moments(x)
        self.batches += 1
        share = (1 / self.batches).clamp(min=self.momentum)
        self.mean.lerp_(mean.to(self.mean), share.to(self.mean))
        self.square.lerp_(square.to(self.square), share.to(self.square))

    def distance(self, x: Tensor) -> Tensor:
        """Compute the squared distance of a batch's moments from the running ones; gradients reach ``x`` alone."""
        mean, square = _moments(x)
        return (mean - self.mean).square().sum() + (_deviation(mean, square) - self.std).square().sum()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.flatten(0, -2)
    return rows.mean(0), rows.square().mean(0)


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    return ((square - mean.square()).clamp(min=0.0) + LEAST_VARIANCE).sqrt()
