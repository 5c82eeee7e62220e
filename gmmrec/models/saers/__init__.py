"""SAERS and its part: the network that finds where in a picture an attribute shows."""

from gmmrec.models.saers.model import SAERS, SAERSConfig

__all__ = ["SAERS", "SAERSConfig"]
