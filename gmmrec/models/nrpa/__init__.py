"""NRPA and its review encoder."""

from gmmrec.models.nrpa.model import NRPA, NRPAConfig

__all__ = ["NRPA", "NRPAConfig"]
