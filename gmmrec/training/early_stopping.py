"""Early stopping: patience on a validation value."""

import math
from dataclasses import dataclass
from typing import Literal

from gmmrec.errors import UsageError

Mode = Literal["max", "min"]
"""Direction of a validation value: ``"max"`` if higher is better, ``"min"`` if lower is."""


@dataclass
class EarlyStopping:
    """The best validation value so far, and the number of validations since.

    Attributes:
        patience: Validations without an improvement after which to stop.
        min_delta: A value counts as an improvement only if it beats the best by more than this.
        mode: Whether higher or lower values are better.
        best_value: None before the first validation.
        best_epoch: 0 before the first validation.
        waited: Validations since the best one.

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.update(value, epoch) for epoch, value in enumerate([0.1, 0.3, 0.3, 0.2], start=1)]
    [True, True, False, False]
    >>> stopping.best_epoch, stopping.is_exhausted
    (2, True)
    """

    patience: int
    min_delta: float = 0.0
    mode: Mode = "max"
    best_value: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Record the value of an epoch, and return whether it is the best so far.

        Raises:
            UsageError: The value is NaN.
        """
        if math.isnan(value):
            raise UsageError(f"the validation value of epoch {epoch} is not a number; check the scores of the model")
        sign = 1 if self.mode == "max" else -1
        if self.best_value is not None and not sign * value > sign * self.best_value + self.min_delta:
            self.waited += 1
            return False
        self.best_value, self.best_epoch, self.waited = value, epoch, 0
        return True

    @property
    def is_exhausted(self) -> bool:
        """True once patience has run out."""
        return self.waited >= self.patience
