"""Dropout that is fast on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError

LEVELS = 2**16
"""Number of probabilities that 16 random bits can represent."""


class Dropout(nn.Module):
    """``nn.Dropout`` that draws random numbers four at a time on a CPU, where it is seven times as fast.

    The probability is rounded to 1/65,536, and the scale uses the rounded value, so that the mean is unbiased. Draws come from
    torch's default generator.

    Args:
        p: Dropout probability, from 0 to 1.

    Shapes:
        - **input:** ``[...]``
        - **output:** ``[...]``

    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UsageError(f"p must be between 0 and 1, but is {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout in training; return ``x`` itself in evaluation."""
        return drop(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        """Return the dropout probability."""
        return f"p={self.p}"


def drop(x: Tensor, p: float) -> Tensor:
    """Apply :class:`Dropout` as in training.

    >>> drop(torch.ones(3), 1.0)
    tensor([0., 0., 0.])
    """
    dropped = round(p * LEVELS)
    if not dropped:
        return x
    if dropped == LEVELS or x.device.type != "cpu":
        return F.dropout(x, p)
    bits = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 4),)).view(torch.int16)[: x.numel()]
    keep = (bits >= dropped - LEVELS // 2).view(x.shape)
    return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
