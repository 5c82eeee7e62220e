"""Early stopping: patience on a validation value."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Remembers the best value so far, and how many looks ago it was seen. Higher is better.

    Attributes:
        patience: Looks without an improvement after which to stop.
        min_delta: A value must exceed the best one by more than this to count as an improvement.
        best_value: None before the first look.
        best_epoch: 0 before the first look.
        waited: Looks since the best one.

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.update(value, epoch) for epoch, value in enumerate([0.1, 0.3, 0.3, 0.2], start=1)]
    [True, True, False, False]
    >>> stopping.best_epoch, stopping.is_exhausted
    (2, True)
    """

    patience: int
    min_delta: float = 0.0
    best_value: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Takes note of one look; whether it is the best so far.

        Raises:
            ValueError: The value is not a number.
        """
        if math.isnan(value):
            raise ValueError(f"the validation value of epoch {epoch} is not a number; look at the scores the model gives")
        if self.best_value is not None and not value > self.best_value + self.min_delta:
            self.waited += 1
            return False
        self.best_value, self.best_epoch, self.waited = value, epoch, 0
        return True

    @property
    def is_exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.waited >= self.patience
