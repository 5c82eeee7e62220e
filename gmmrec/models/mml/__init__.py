"""MML and its modules: meta-learning, adaptive Transformer, ID embedding generator, prediction fusion."""

from gmmrec.models.mml.config import MMLConfig
from gmmrec.models.mml.model import MML

__all__ = ["MML", "MMLConfig"]
