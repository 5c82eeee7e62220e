"""POG and the triplet loss of its item vectors."""

from gmmrec.models.pog.model import POG, POGConfig

__all__ = ["POG", "POGConfig"]
