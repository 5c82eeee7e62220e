"""Comparison of finished runs by paired tests on their values per user."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmrec.errors import UnknownIdError, UsageError
from gmmrec.evaluation.kinds import load_results, task_of_metric
from gmmrec.evaluation.metrics import finish
from gmmrec.evaluation.results import EVERYTHING, SAMPLED, Results, candidates
from gmmrec.evaluation.significance import bootstrap_intervals, holm, sign_flip_test, wilcoxon_test
from gmmrec.evaluation.splits import check_same_splits
from gmmrec.safety.documents import read_yaml
from gmmrec.storage.manifest import StoredFolder, read_manifest


@dataclass(frozen=True)
class Row:
    """One run compared with the reference; the reference itself has a difference of 0 and no tests.

    Attributes:
        run: Name of the run.
        seeds: Number of averaged runs.
        mean: Mean of the metric over the common users.
        difference: Mean minus that of the reference.
        low: Lower end of the 95 % bootstrap interval of the difference.
        high: Upper end.
        p: p-value of the two-sided sign-flip test.
        p_holm: The same, Holm-corrected for the number of runs compared with the reference.
        p_wilcoxon: p-value of Wilcoxon's signed-rank test, as a second opinion; not corrected.
        deviation: Standard deviation of the metric between averaged runs; None for a single run. The interval and the p-values
            account for the variation between users, not between seeds.
    """

    run: str
    seeds: int
    mean: float
    difference: float = 0.0
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_wilcoxon: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison, best run first."""

    metric: str
    group: str
    reference: str
    num_users: int
    left_out: int
    rows: tuple[Row, ...]
    sampled: int = 0
    sampled_by: str = "uniform"
    unit: str = "user"
    lower_is_better: bool = False

    @property
    def note(self) -> str:
        """Description of the comparison, in a sentence or two."""
        group = "" if self.group == EVERYTHING else f" (group: {self.group})"
        better = ", lower is better" if self.lower_is_better else ""
        units = f"{self.unit[:-1]}ies" if self.unit.endswith("y") else f"{self.unit}s"
        over = f"{self.num_users} {units}{group}"
        note = f"{self.metric} over {over}{better}, differences to {self.reference}, paired by {self.unit}."
        if self.left_out:
            note += f" Only common {units} count; {self.left_out} missing from some run are left out."
        if any(row.deviation is not None for row in self.rows):
            note += " ± is the standard deviation between seeds, which intervals and p-values do not cover."
        if self.sampled:
            note += f" Ranked among {candidates(self.sampled, self.sampled_by)}: {SAMPLED}."
        return note

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "note": self.note}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run."""
        frame: pd.DataFrame = pd.DataFrame([asdict(row) for row in self.rows])
        return frame

    def to_markdown(self) -> str:
        """Return a table and the note."""
        lines = [
            f"| run | seeds | {self.metric} | difference | 95 % interval | p | p (Holm) | p (Wilcoxon) |",
            f"|---|{'---:|' * 7}",
        ]
        for row in self.rows:
            spread = "" if row.deviation is None else f" ± {row.deviation:.4f}"
            cells = [row.run, str(row.seeds), f"{row.mean:.4f}{spread}"]
            if row.p is None:
                cells += ["reference", *[""] * 4]
            else:
                cells += [f"{row.difference:+.4f}", f"{row.low:+.4f} to {row.high:+.4f}"]
                cells += ["" if p is None else f"{p:.2g}" for p in (row.p, row.p_holm, row.p_wilcoxon)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", self.note, ""])


def compare(
    runs: Mapping[str, Results | Sequence[Results]],
    *,
    metric: str = "ndcg@20",
    group: str = EVERYTHING,
    reference: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs by one metric, paired by query: users of a ranking, predicted ratings, outfits.

    The sign-flip (randomisation) test estimates how often a mean difference as large as the observed one would occur if the better
    run of each user were random. Choosing the best of many runs as the reference makes small p-values more likely than they state;
    if it matters, name the reference beforehand. Differences of ``rmse`` are tested by squared errors;
    :math:`a - b = (a^2 - b^2) / (a + b)` converts them and their interval to the scale of ratings.

    Args:
        runs: Results by name; several under one name (the same model with other seeds) are averaged per user first.
        metric: Metric such as ``"recall@20"``, ``"rmse"`` or ``"impressions/auc"``.
        group: Group of the results, such as ``"cold items"``.
        reference: Run the others are compared with; the best by default.
        resamples: Number of sign flips, and of resamples per interval.
        seed: Seed of both.

    Raises:
        UsageError: There are fewer than two runs, one lacks the metric, or they did not answer the same queries.
        UnknownIdError: A run lacks the group, or there is no such reference.
    """
    if len(runs) < 2:
        raise UsageError(f"a comparison needs at least two different runs, but got {len(runs)}")
    if reference is not None and reference not in runs:
        raise UnknownIdError(f"there is no run {reference!r} to compare with; the runs are {', '.join(runs)}")
    parts = {
        name: [whole.part(group) for whole in ([found] if isinstance(found, Results) else found)] for name, found in runs.items()
    }
    members = [(name, part) for name, same in parts.items() for part in same]
    column = metric.rpartition("/")[2]
    for name, part in members:
        if column not in part.values:
            raise UsageError(f"run {name} has no values of {metric!r}; it has {', '.join(part.values)}")
    positions = align(members)
    kind = members[0][1].kind
    lower_is_better = column in kind.lower_is_better

    values = {name: torch.zeros(positions[0].numel(), dtype=torch.float64) for name in parts}
    by_seed: dict[str, list[float]] = {name: [] for name in parts}
    for (name, part), position in zip(members, positions, strict=True):
        of_seed = part.values[column][position].double()
        values[name] += of_seed / len(parts[name])
        by_seed[name].append(finish(column, float(of_seed.mean())))
    deviations = {name: stdev(found) if len(found) > 1 else None for name, found in by_seed.items()}
    means = {name: finish(column, float(value.mean())) for name, value in values.items()}
    order = sorted(means, key=means.__getitem__, reverse=not lower_is_better)
    best = reference or order[0]
    differences = {name: values[name] - values[best] for name in order if name != best}
    if column == "rmse":
        differences = {name: value / max(means[name] + means[best], 1e-12) for name, value in differences.items()}

    p_values = sign_flip_test(torch.stack(list(differences.values()), dim=1), resamples, torch.Generator().manual_seed(seed))
    intervals = bootstrap_intervals(differences, resamples, torch.Generator().manual_seed(seed))
    rows = {best: Row(best, len(parts[best]), means[best], deviation=deviations[best])}
    for (name, difference), p, p_holm in zip(differences.items(), p_values, holm(p_values), strict=True):
        change, tests = float(difference.mean()), (p, p_holm, wilcoxon_test(difference))
        rows[name] = Row(name, len(parts[name]), means[name], change, *intervals[name], *tests, deviations[name])
    num_queries = torch.unique(torch.cat([part.query for _, part in members])).numel()
    left_out = max(num_queries - positions[0].numel(), 0)
    ordered = tuple(rows[name] for name in order)
    sampling = members[0][1].sampled, members[0][1].sampled_by
    return Comparison(metric, group, best, positions[0].numel(), left_out, ordered, *sampling, kind.paired_by, lower_is_better)


def align(runs: Sequence[tuple[str, Results]]) -> list[Tensor]:
    """Return the positions ``[n]`` of the common users in each named run, in the same order of users.

    Raises:
        UsageError: The runs masked different items, ranked other candidates, or answered different queries.
    """
    (first_name, first), *others = runs
    for name, run in others:
        if run.kind.name != first.kind.name:
            raise UsageError(
                f"{first_name} and {name} cannot be compared: the first holds results of {first.kind.name}, the second of "
                f"{run.kind.name}; use the same evaluation task for both"
            )
        if run.masked != first.masked:
            raise UsageError(
                f"{first_name} and {name} cannot be compared: the first masks the items of {first.masked}, the second those of "
                f"{run.masked}; evaluate both with the same mask"
            )
        ranked = [candidates(of.sampled, of.sampled_by) for of in (first, run)]
        if ranked[0] != ranked[1]:
            raise UsageError(
                f"{first_name} and {name} cannot be compared: the first ranked {ranked[0]}, the second {ranked[1]}; "
                "evaluate both alike"
            )
    if all(torch.equal(run.query, first.query) and torch.equal(run.relevant, first.relevant) for _, run in others):
        return [torch.arange(len(first))] * len(runs)

    common = first.query
    for name, run in runs:
        if torch.unique(run.query).numel() < len(run):
            raise UsageError(
                f"{name} has several queries for some users, so it can only be compared with runs of exactly the same queries"
            )
        common = common[torch.isin(common, run.query)]
    if not common.numel():
        names = " and ".join(name for name, _ in runs)
        raise UsageError(
            f"{names} cannot be compared: they have no test user in common; use runs on the same split "
            "(--split.strategy, --split.seed)"
        )
    common = common.sort().values
    positions = []
    for name, run in runs:
        ordered, order = run.query.sort()
        positions.append(order[torch.searchsorted(ordered, common)])
        differing = int((run.relevant[positions[-1]] != first.relevant[positions[0]]).sum())
        if differing:
            raise UsageError(
                f"{first_name} and {name} cannot be compared: {differing} of their {common.numel()} common users have different "
                "test items; use runs on the same split (--split.strategy, --split.seed) of the same data set"
            )
    return positions


def read_runs(folders: Sequence[str | Path], *, group_seeds: bool = False, metric: str = "ndcg@20") -> dict[str, list[Results]]:
    """Return the results of run folders, by folder name (by path if names repeat).

    Args:
        folders: Folders of finished runs.
        group_seeds: Whether to group runs whose ``config.yaml`` differs only in the seed.
        metric: Metric to compare, which determines the results file.

    Raises:
        UsageError: A folder holds no values per user, is given twice, or was split in another way than the others.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("a run folder is given twice; give each once")
    names = [path.resolve().name for path in paths]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    check_same_splits(labels, paths)
    runs: dict[str, list[Results]] = {}
    known: list[tuple[Any, str]] = []
    for label, path in zip(labels, paths, strict=True):
        if group_seeds:
            config = _config_without_seed(path)
            label = next((first for other, first in known if other == config), label)
            known.append((config, label))
        runs.setdefault(label, []).append(load_results(path, task_of_metric(metric)))
    return runs


def _config_without_seed(folder: Path) -> Any:
    remedy = "give folders of finished runs"
    config = read_yaml(StoredFolder(folder, read_manifest(folder, remedy), remedy).file("config.yaml"))
    config.pop("seed", None)
    run = config.get("run")
    return {**config, "run": {name: value for name, value in run.items() if name != "seed"}} if isinstance(run, dict) else config
