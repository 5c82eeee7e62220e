"""ENSEMBLES: ensemble classes by their name in files."""

from gmmrec.ensemble.blend import Blend
from gmmrec.ensemble.two_stage import TwoStage

ENSEMBLES: dict[str, type[Blend] | type[TwoStage]] = {"blend": Blend, "two-stage": TwoStage}
"""Ensemble classes by their name in files."""
