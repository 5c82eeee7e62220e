"""File of results, mutants known to be equivalent, and the score of a package with its interval."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from tests.mutation.sites import PACKAGES, Mutant

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
EQUIVALENT = HERE / "equivalent.yaml"
KILLED, SURVIVED, SLOW, UNUSABLE, SAME = "killed", "survived", "timed out", "cannot be imported", "equivalent"
Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Result:
    """One row: a mutant, by its file, operator and line of code, and what its tests said."""

    file: str
    number: int
    operator: str
    outcome: str
    seconds: float
    before: str
    after: str
    nth: int

    @property
    def key(self) -> Key:
        return self.file, self.operator, self.before, self.after, self.nth


def read_results(path: Path, *, first: bool = False) -> dict[Key, Result]:
    """Return the newest result of every mutant, or its first; a file that does not exist has none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            Result(**{**row, "number": int(row["number"]), "seconds": float(row["seconds"]), "nth": int(row["nth"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        ]
    return {row.key: row for row in (reversed(rows) if first else rows)}


def append(path: Path, result: Result) -> None:
    names, is_new = [field.name for field in fields(Result)], not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(names)
        writer.writerow([getattr(result, name) for name in names])


def read_equivalent(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """Return why a mutant changes nothing that anybody could see, by its file and its line before and after.

    Raises:
        ValueError: An entry lacks a field or has another one.
    """
    reasons = {}
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
        if set(entry) != {"file", "before", "after", "why"}:
            raise ValueError(f"an entry of {path.name} must have the fields file, before, after, why, but has {', '.join(entry)}")
        reasons[entry["file"], entry["before"], entry["after"]] = entry["why"]
    return reasons


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's formula (1927).

    >>> tuple(round(bound, 3) for bound in wilson(8, 10))
    (0.49, 0.943)
    """
    if not count:
        return 0.0, 1.0
    share, square = successes / count, z * z / count
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def outcomes(mutants: Sequence[Mutant], results: Mapping[Key, Result], reasons: Mapping[tuple[str, str, str], str]) -> list[str]:
    """Return the outcomes of the mutants that have one; a survivor with a reason is equivalent."""
    found = []
    for mutant in mutants:
        if mutant.key in results:
            outcome = results[mutant.key].outcome
            is_same = outcome == SURVIVED and (mutant.file, mutant.before, mutant.after) in reasons
            found.append(SAME if is_same else outcome)
    return found


def table(first: Mapping[str, Sequence[str]], newest: Mapping[str, Sequence[str]]) -> str:
    """Return the score of every package as Markdown: the share of killed ones among those that could be.

    The first score, before tests were added for survivors, estimates that of all mutants; the newest is that of the sample.
    """
    header = ("package", "mutants", "equivalent", "not importable", "first score", "95 % interval")
    header = (*header, "killed", "timed out", "survived", "score now")
    rows = [f"| {' | '.join(header)} |", "|---" + "|---:" * 9 + "|"]
    for package in PACKAGES:
        found = newest.get(package, ())
        if found:
            number = {name: found.count(name) for name in (KILLED, SLOW, SURVIVED, SAME, UNUSABLE)}
            dead, alive = _counts(first[package])
            low, high = wilson(dead, dead + alive)
            cells = [f"`{package}`", str(len(found)), str(number[SAME]), str(number[UNUSABLE]), _share(dead, alive)]
            cells += [
                f"{low:.1%} to {high:.1%}",
                *(str(number[name]) for name in (KILLED, SLOW, SURVIVED)),
                _share(*_counts(found)),
            ]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _counts(found: Sequence[str]) -> tuple[int, int]:
    """Return the numbers of killed mutants and of survivors."""
    return found.count(KILLED) + found.count(SLOW), found.count(SURVIVED)


def _share(dead: int, alive: int) -> str:
    return f"{dead / max(1, dead + alive):.1%}"
