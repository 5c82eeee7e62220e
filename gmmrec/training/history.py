"""Training history: losses and validation values by epoch."""

import csv
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch.

    Attributes:
        number: Counted from 1.
        seconds: Duration of the training steps, validation excluded.
        terms: Mean of each loss term over the steps.
        value: Monitored validation value, or None if the epoch was not validated.
    """

    number: int
    seconds: float
    terms: Mapping[str, float]
    value: float | None = None

    def scalars(self, monitor: str) -> dict[str, float | None]:
        """Losses and the validation value, named as in every log.

        >>> Epoch(3, 1.5, {"bpr": 0.25, "l2": 0.001}, 0.125).scalars("recall@20")
        {'loss/bpr': 0.25, 'loss/l2': 0.001, 'val/recall@20': 0.125}
        """
        losses = {f"loss/{name}": value for name, value in self.terms.items()}
        return {**losses, value_name(monitor): self.value}

    def as_row(self, monitor: str) -> dict[str, float | None]:
        """The epoch as a row of a table."""
        return {"epoch": self.number, "seconds": round(self.seconds, 4), **self.scalars(monitor)}


@dataclass
class History:
    """All epochs of a training, and its outcome.

    Attributes:
        monitor: Name of the validation value, such as ``"recall@20"``.
        epochs: In order; empty if the model has nothing to train.
        best_epoch: Epoch of the weights that were kept; 0 if the model has nothing to train.
        best_value: Validation value of these weights; None without validation.
        stopped_early: Whether patience ran out.
    """

    monitor: str = "value"
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    stopped_early: bool = False

    @property
    def seconds_per_epoch(self) -> float:
        """Median duration of the training steps of an epoch; 0 without epochs."""
        return statistics.median(epoch.seconds for epoch in self.epochs) if self.epochs else 0.0

    def to_frame(self) -> pd.DataFrame:
        """One row per epoch: ``epoch``, ``seconds``, ``loss/TERM`` for each loss term, ``val/MONITOR``."""
        rows = [epoch.as_row(self.monitor) for epoch in self.epochs]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=_columns(rows, self.monitor))
        return frame


class HistoryFile:
    """``history.csv``: one row per epoch, appended as soon as the epoch ends, so that a killed run keeps it.

    Args:
        path: Path of the file; an existing file is replaced.
        history: Monitor, and the epochs so far of a resumed run.
    """

    def __init__(self, path: Path, history: History) -> None:
        self.path, self.monitor = path, history.monitor
        self._rows: list[dict[str, float | None]] = []
        self._names: list[str] = []
        path.unlink(missing_ok=True)
        for epoch in history.epochs:
            self.append(epoch)

    def append(self, epoch: Epoch) -> None:
        """Add one row. A loss term that appears for the first time adds a column, and the file is rewritten."""
        self._rows.append(epoch.as_row(self.monitor))
        names = _columns(self._rows, self.monitor) if set(self._rows[-1]) - set(self._names) else self._names
        is_new = names != self._names
        self._names = names
        with self.path.open("w" if is_new else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            if is_new:
                writer.writeheader()
            writer.writerows(self._rows if is_new else self._rows[-1:])


def value_name(monitor: str) -> str:
    """Name of a validation value in logs.

    >>> value_name("recall@20")
    'val/recall@20'
    """
    return f"val/{monitor}"


def _columns(rows: list[dict[str, float | None]], monitor: str) -> list[str]:
    """Names in order of appearance, the validation value last."""
    last = value_name(monitor)
    names = dict.fromkeys(name for row in rows for name in row if name != last)
    return [*(names or ("epoch", "seconds")), last]
