"""Splits: pure functions from interactions to train, validation and test parts over the same vocabularies."""

from dataclasses import dataclass

from gmmrec.data.interactions import Interactions


@dataclass(frozen=True)
class Split:
    """Three parts of one log. Graphs see ``train`` only; ``valid`` selects; ``test`` reports."""

    train: Interactions
    valid: Interactions
    test: Interactions
