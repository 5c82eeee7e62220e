"""Mean and standard deviation of vectors: kept as they go by, and compared with those of others."""

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-8
"""Added to every variance, so that the root of a column that never changes has a derivative."""


class RunningMoments(nn.Module):
    r"""Remembers how the outputs of a module were distributed, and says how far others are from that.

    .. math:: d(\mathbf{X}) = \lVert \mu(\mathbf{X}) - \mu \rVert^2 + \lVert \sigma(\mathbf{X}) - \sigma \rVert^2

    with means and standard deviations by column. The regulariser of the residual transfer of MMT-Net (Krishnan et al., SIGIR 2020),
    of which the paper's summary says that statistics are kept near those of the source; their kind is a reconstruction. What is
    remembered are buffers, and goes with the weights.

    Args:
        dim: Number of columns.
        momentum: Least share of a batch in what is remembered: the first batches count alike, later ones fade exponentially.

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
        """Standard deviation of every column ``[D]``, of all vectors and not an estimate from a sample."""
        return _deviation(self.mean, self.square)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen yet."""
        return int(self.batches) == 0

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Takes note of a batch of vectors."""
        mean, square = _moments(x)
        self.batches += 1
        share = (1 / self.batches).clamp(min=self.momentum)
        self.mean.lerp_(mean.to(self.mean), share.to(self.mean))
        self.square.lerp_(square.to(self.square), share.to(self.square))

    def distance(self, x: Tensor) -> Tensor:
        """How far the moments of a batch are from those that are remembered; gradients reach ``x`` alone."""
        mean, square = _moments(x)
        return (mean - self.mean).square().sum() + (_deviation(mean, square) - self.std).square().sum()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.flatten(0, -2)
    return rows.mean(0), rows.square().mean(0)


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    return ((square - mean.square()).clamp(min=0.0) + LEAST_VARIANCE).sqrt()
