"""MMT-Net and its parts: running moments and standardization."""

from gmmrec.models.mmt_net.model import MMTNet, MMTNetConfig

__all__ = ["MMTNet", "MMTNetConfig"]
