"""Crashes in earnest: ``python -m tests.crashes --out FILE``; restartable, one row per case.

Kills at random moments and before every file operation, damage to every file, full and read-only disks, two writers, for several
models and a blend. ``--summary`` prints the table of docs/reliability.md.
"""

import argparse
import csv
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.crashes.checks import Row, damages, disks, jobs, kills, writers

COLUMNS = ("scenario", "job", "case", "outcome")


def rows_of(path: Path) -> list[Row]:
    """Return the rows in a file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row[column] for column in COLUMNS) for row in csv.DictReader(file)]  # type: ignore[misc]


def summary(rows: Sequence[Row]) -> str:
    """Return a table of the outcomes of every scenario."""
    counts = Counter((scenario, "FAULT" if outcome.startswith("FAULT") else outcome) for scenario, _, _, outcome in rows)
    lines = ["| scenario | outcome | cases |", "|---|---|---:|"]
    lines += [f"| {scenario} | {outcome} | {count:,} |" for (scenario, outcome), count in sorted(counts.items())]
    return "\n".join(lines)


def cases(work: Path, moments: int, done: set[tuple[str, str]]) -> Iterator[Row]:
    """Yield the rows of all jobs that are not done, and one row after each part."""
    for job in jobs(work):
        parts = {
            "kills": kills(work, job, moments),
            "damage": damages(work, job),
            "disks": disks(work, job),
            "writers": writers(work, job, 10),
        }
        for name, part in parts.items():
            if (job.name, name) not in done:
                yield from part
                yield "part", job.name, name, "complete"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description="Kill, damage and fill up runs.")
    parser.add_argument("--out", type=Path, required=True, help="CSV file of the cases")
    parser.add_argument("--moments", type=int, default=50, help="random moments per job (default 50)")
    parser.add_argument("--summary", action="store_true", help="print the table of the file and stop")
    options = parser.parse_args(arguments)
    rows = rows_of(options.out)
    if not options.summary:
        logging.disable(logging.WARNING)
        done = {(job, case) for scenario, job, case, _ in rows if scenario == "part"}
        with tempfile.TemporaryDirectory() as work, options.out.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if not rows:
                writer.writerow(COLUMNS)
            for row in cases(Path(work), options.moments, done):
                writer.writerow(row)
                file.flush()
        rows = rows_of(options.out)
    shown = [row for row in rows if row[0] != "part"]
    print(summary(shown))
    faults = [row for row in shown if row[3].startswith("FAULT")]
    for row in faults:
        print(*row, sep="; ")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
