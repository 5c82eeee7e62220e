"""SAERS and its semantic extraction network."""

from gmmrec.models.saers.model import SAERS, SAERSConfig

__all__ = ["SAERS", "SAERSConfig"]
