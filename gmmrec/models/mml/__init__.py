"""MML and its parts: meta-learning, adaptive Transformer, generator of ID embeddings, fusion of predictions."""

from gmmrec.models.mml.config import MMLConfig
from gmmrec.models.mml.model import MML

__all__ = ["MML", "MMLConfig"]
