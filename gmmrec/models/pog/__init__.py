"""POG and its part: the triplet loss that items are learned by."""

from gmmrec.models.pog.model import POG, POGConfig

__all__ = ["POG", "POGConfig"]
