"""MML and its parts: meta-learning, adaptive Transformer, generator of ID embeddings, fusion of predictions."""

from gmmrec.models.mml.model import MML, MMLConfig

__all__ = ["MML", "MMLConfig"]
