"""NRPA and its part: the encoder of reviews."""

from gmmrec.models.nrpa.model import NRPA, NRPAConfig

__all__ = ["NRPA", "NRPAConfig"]
