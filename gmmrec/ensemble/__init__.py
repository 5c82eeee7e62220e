"""Ensembles: recommenders made of trained recommenders. They know no run."""

from gmmrec.ensemble.blend import Blend
from gmmrec.ensemble.two_stage import TwoStage

ENSEMBLES: dict[str, type[Blend] | type[TwoStage]] = {"blend": Blend, "two-stage": TwoStage}
"""Every kind of ensemble, by the name that stands in files."""
