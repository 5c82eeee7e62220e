"""Outcomes of paired tests, kept as CSV beside the results, since the values per query stay in the run folders."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import sqrt
from pathlib import Path
from statistics import variance
from typing import Any

from gmmrec.evaluation.compare import Comparison, compare
from gmmrec.evaluation.compare import Row as Line
from gmmrec.evaluation.metrics import ERRORS
from gmmrec.evaluation.results import Results
from lab.paths import RESULTS
from lab.results import Row, Store, number

KEYS = ("dataset", "study", "metric", "group", "run")
TESTS = ("difference", "low", "high", "p", "p_holm", "p_wilcoxon", "deviation")
ABOUT: dict[str, Any] = {"unit": "user", "lower_is_better": False, "sampled": 0, "sampled_by": "uniform"}
"""Columns on the kind of comparison, with the value of an empty cell."""


class Significance:
    """Comparisons of one benchmark.

    Args:
        name: Of the benchmark.
        folder: Of the CSV files.
    """

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.store = Store(f"{name}-significance", folder, KEYS)

    def test(
        self,
        runs: Mapping[str, Sequence[Results]],
        *,
        dataset: str,
        metric: str,
        study: str = "",
        group: str = "all",
        reference: str | None = None,
        digests: Mapping[str, str] | None = None,
        unit: str | None = None,
    ) -> Comparison:
        """Compare runs, paired by query, and keep the outcome instead of an earlier one; ``unit`` names the pairs."""
        found = compare(runs, metric=metric, group=group, reference=reference)
        found = found if unit is None else replace(found, unit=unit)
        self.keep(found, dataset=dataset, study=study, digests=digests)
        return found

    def keep(
        self,
        found: Comparison,
        *,
        dataset: str,
        study: str = "",
        digests: Mapping[str, str] | None = None,
        verdicts: Mapping[str, str] | None = None,
    ) -> None:
        """Keep a comparison instead of an earlier one.

        Args:
            found: Its outcome.
            dataset: On which it was made.
            study: Name among several comparisons on that data set.
            digests: Of the settings of each run.
            verdicts: In words, of each run.
        """
        where = {"dataset": dataset, "study": study, "metric": found.metric, "group": found.group}
        about: dict[str, Any] = {"reference": found.reference, "queries": found.num_users, "left_out": found.left_out}
        about |= {name: value for name, default in ABOUT.items() if (value := getattr(found, name)) != default}
        rows = [
            {
                **where,
                "run": line.run,
                "digest": (digests or {}).get(line.run),
                "seeds": line.seeds,
                "mean": line.mean,
                **({name: getattr(line, name) for name in TESTS} if line.p is not None else {"deviation": line.deviation}),
                "verdict": (verdicts or {}).get(line.run),
                **about,
            }
            for line in found.rows
        ]
        self.store.replace(rows, **where)

    def rows(self, **where: str) -> list[Row]:
        """Rows in the order of the tables, filtered by columns such as the data set."""
        return self.store.select(**where)

    def comparisons(self, dataset: str, study: str = "") -> list[Comparison]:
        """All comparisons of a data set."""
        rows = self.rows(dataset=dataset, study=study)
        keys = dict.fromkeys((row["metric"], row["group"]) for row in rows)
        return [_comparison([row for row in rows if (row["metric"], row["group"]) == key]) for key in keys]

    def markdown(self, dataset: str, study: str = "") -> list[str]:
        """All comparisons of a data set, as tables with their notes."""
        return [found.to_markdown() for found in self.comparisons(dataset, study)]


def _comparison(rows: Sequence[Row]) -> Comparison:
    known = {field.name for field in fields(Line)}
    lines = []
    for row in rows:
        tests = {name: value for name in TESTS if name in known and (value := number(row, name)) is not None}
        lines.append(Line(row["run"], int(row["seeds"]), float(row["mean"]), **tests))
    first = rows[0]
    sizes = int(first["queries"]), int(first.get("left_out", "0"))
    about = {name: type(default)(first[name]) for name, default in ABOUT.items() if name in first}
    return Comparison(first["metric"], first["group"], first["reference"], *sizes, tuple(lines), **about)


def verdict(metric: str, line: Line, full: Sequence[float], variant: Sequence[float]) -> str:
    """Verdict on a variant by one metric; the papers claim "worse" for every part that is left out.

    p covers the choice of users for these trained models, but not that of seeds. So a difference must also be twice its standard
    error between the seeds. With one seed that error is unknown.

    >>> line = Line("without", 3, 0.08, -0.01, p=0.0001)
    >>> verdict("recall@20", line, [0.091, 0.089, 0.090], [0.080, 0.081, 0.079])
    'worse'
    >>> verdict("recall@20", line, [0.080, 0.100, 0.090], [0.081, 0.095, 0.064])
    'within seed variation'
    """
    if line.p is None or line.difference is None or line.p >= 0.05:
        return "not significant"
    direction = "worse" if (line.difference < 0) != (metric in ERRORS) else "better"
    if len(full) < 2:
        return f"{direction} (one seed)"
    error = sqrt(variance(full) / len(full) + variance(variant) / len(variant))
    return direction if abs(line.difference) > 2 * error else "within seed variation"
