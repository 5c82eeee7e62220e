"""What happened in training, epoch by epoch."""

import csv
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Attributes:
        number: From 1.
        seconds: Time spent on training steps; validation not included.
        terms: Mean of every loss term over the steps.
        value: The monitored value, or None where the epoch was not validated.
    """

    number: int
    seconds: float
    terms: Mapping[str, float]
    value: float | None = None

    def as_row(self) -> dict[str, float | None]:
        """The epoch as a row of the log."""
        return {"epoch": self.number, "seconds": round(self.seconds, 4), **self.terms, "value": self.value}


@dataclass
class History:
    """All epochs, and what came of them.

    Attributes:
        epochs: In order; empty for a model that has nothing to train.
        best_epoch: The epoch whose weights the model has now; 0 for a model that has nothing to train.
        best_value: Its monitored value; None where nothing was validated.
        stopped_early: Whether patience ran out.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    stopped_early: bool = False

    @property
    def seconds_per_epoch(self) -> float:
        """Median time of an epoch's training steps; 0 where there was none."""
        return statistics.median(epoch.seconds for epoch in self.epochs) if self.epochs else 0.0

    def to_frame(self) -> pd.DataFrame:
        """One row an epoch: ``epoch``, ``seconds``, every loss term, ``value``."""
        rows = [epoch.as_row() for epoch in self.epochs]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=_columns(rows))
        return frame


class HistoryFile:
    """``history.csv``: a row an epoch, added as soon as the epoch is over, so that a killed run has it.

    Args:
        path: Where to write; a file that is there already is replaced.
        history: Epochs that are over already, of a run that goes on.
    """

    def __init__(self, path: Path, history: History) -> None:
        self.path = path
        self._rows: list[dict[str, float | None]] = []
        self._names: list[str] = []
        path.unlink(missing_ok=True)
        for epoch in history.epochs:
            self.append(epoch)

    def append(self, epoch: Epoch) -> None:
        """Adds one row; where a loss term appears for the first time, the file is written anew."""
        self._rows.append(epoch.as_row())
        names = _columns(self._rows) if set(self._rows[-1]) - set(self._names) else self._names
        is_new = names != self._names
        self._names = names
        with self.path.open("w" if is_new else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            if is_new:
                writer.writeheader()
            writer.writerows(self._rows if is_new else self._rows[-1:])


def _columns(rows: list[dict[str, float | None]]) -> list[str]:
    """Names in order of appearance, the monitored value last."""
    names = dict.fromkeys(name for row in rows for name in row if name != "value")
    return [*(names or ("epoch", "seconds")), "value"]
