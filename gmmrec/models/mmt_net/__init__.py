"""MMT-Net and its modules: running moments and standardisation."""

from gmmrec.models.mmt_net.model import MMTNet, MMTNetConfig

__all__ = ["MMTNet", "MMTNetConfig"]
