"""Results: one CSV file per benchmark, one row per finished cell, and means over the seeds.

A row is a dictionary of strings, as it stands in the file; numbers are written with all their digits. Rows that were measured
before results were kept this way summarise several seeds: their ``seed`` is empty, ``runs`` says how many there were, and
``METRIC sd`` is the deviation between them. A summary gives way to the cells that replace it as soon as there are as many of
them.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lab.paths import RESULTS

Row = dict[str, str]
KEYS = ("dataset", "model", "variant", "group", "digest", "seed", "part")
"""Columns that identify a row; a benchmark leaves out those that it does not need."""
SEED, RUNS = "seed", "runs"


@dataclass(frozen=True)
class Summary:
    """Mean of a metric over seeds, and their standard deviation, None if unknown."""

    mean: float
    deviation: float | None
    runs: int


class Store:
    """Rows of one benchmark, kept in a CSV file.

    Args:
        name: Name of the file, without its suffix.
        folder: Folder of the file.
        keys: Columns that identify a row.
    """

    def __init__(self, name: str, folder: Path = RESULTS, keys: Sequence[str] = KEYS) -> None:
        self.path, self.keys = folder / f"{name}.csv", tuple(keys)
        self.rows: list[Row] = []
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                self.rows = [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]

    def find(self, **values: Any) -> Row | None:
        """Return the row with these values of the key columns and all others empty; None if there is none."""
        key = self._key({name: text(value) for name, value in values.items()})
        return next((row for row in self.rows if self._key(row) == key), None)

    def select(self, **values: Any) -> list[Row]:
        """Return all rows with these values, whatever the other columns contain."""
        values = {name: text(value) for name, value in values.items()}
        return [row for row in self.rows if all(row.get(name, "") == value for name, value in values.items())]

    def put(self, values: Mapping[str, Any]) -> Row:
        """Add a row, or replace the row with the same key, and write the file."""
        row = {name: text(value) for name, value in values.items() if text(value) != ""}
        found = [number for number, other in enumerate(self.rows) if self._key(other) == self._key(row)]
        if found:
            self.rows[found[0]] = row
        else:
            self.rows.append(row)
            self._drop_summaries(row)
        self.write()
        return row

    def replace(self, rows: Iterable[Mapping[str, Any]], **where: Any) -> None:
        """Replace all rows with these values, and write the file."""
        old = self.select(**where)
        position = next((number for number, row in enumerate(self.rows) if row in old), len(self.rows))
        new = [{name: text(value) for name, value in row.items() if text(value) != ""} for row in rows]
        before, after = ([row for row in part if row not in old] for part in (self.rows[:position], self.rows[position:]))
        self.rows = [*before, *new, *after]
        self.write()

    def write(self) -> None:
        """Write the file atomically."""
        columns = [name for name in self.keys if any(name in row for row in self.rows)]
        columns += [name for name in dict.fromkeys(name for row in self.rows for name in row) if name not in columns]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)

    def _key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(row.get(name, "") for name in self.keys)

    def _drop_summaries(self, row: Row) -> None:
        """Drop the summary of a row's cells once there are as many cells as it summarises."""
        same = [other for other in self.rows if all(other.get(k) == row.get(k) for k in self.keys if k != SEED)]
        cells = [other for other in same if SEED in other]
        for summary in same:
            if SEED not in summary and len(cells) >= int(summary.get(RUNS, "1")):
                self.rows.remove(summary)


def text(value: Any) -> str:
    """Return a value as stored in a CSV file.

    >>> text(0.1 + 0.2), text(3), text(None)
    ('0.30000000000000004', '3', '')
    """
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def number(row: Mapping[str, str], column: str) -> float | None:
    """Return a number of a row; None if the cell is empty."""
    return float(row[column]) if row.get(column) else None


def summarise(rows: Sequence[Row], metric: str) -> Summary | None:
    """Return mean and deviation over seeds; None if no row has the metric.

    >>> summarise([{"seed": "0", "recall@20": "0.1"}, {"seed": "1", "recall@20": "0.3"}], "recall@20").mean
    0.2
    >>> summarise([{"runs": "3", "recall@20": "0.1", "recall@20 sd": "0.02"}], "recall@20")
    Summary(mean=0.1, deviation=0.02, runs=3)
    """
    summary = next((row for row in rows if SEED not in row and row.get(metric)), None)
    values = [float(row[metric]) for row in rows if SEED in row and row.get(metric)]
    if summary is not None and len(values) < int(summary.get(RUNS, "1")):
        return Summary(float(summary[metric]), number(summary, f"{metric} sd"), int(summary.get(RUNS, "1")))
    return Summary(mean(values), stdev(values) if len(values) > 1 else None, len(values)) if values else None


def count_runs(rows: Sequence[Row]) -> int:
    """Return the number of runs behind rows of one model."""
    return max(sum(SEED in row for row in rows), *(int(row.get(RUNS, "1")) for row in rows if SEED not in row), 0)


def average(rows: Sequence[Row], column: str) -> float | None:
    """Return the mean of a column, such as seconds or epochs."""
    found = summarise(rows, column)
    return None if found is None else found.mean
