"""Cells: one model with its settings and a seed on one data set, run once."""

import json
import logging
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gmmrec.data.dataset import Dataset
from gmmrec.runs.folder import report_of
from gmmrec.runs.run import Run
from gmmrec.runs.status import state_of
from lab.grid import Settings, digest, path_of, portable
from lab.paths import CONFIGS, DATA, RESULTS, ROOT, RUNS
from lab.recipe import RunConfig, read_config, run
from lab.results import Row, Store
from lab.significance import Significance

Report = dict[str, Any]
logger = logging.getLogger("lab")


@dataclass(frozen=True)
class Cell:
    """One model with its settings and a seed on one data set.

    Attributes:
        dataset: Folder of the settings and name in the tables.
        model: Row of the table; ``settings["model_name"]`` names the model behind it if it has another name.
        settings: Sections of a run.
        seed: Seed of the run.
        variant: Name of the variant of a model with several rows.
        start: Run folder of the cell whose vectors initialise this one; of the same seed, as the digest ignores seeds.
    """

    dataset: str
    model: str
    settings: Settings
    seed: int = 0
    variant: str = ""
    start: Path | None = None

    @property
    def digest(self) -> str:
        """Digest of the settings, and of those of the cell that it starts from."""
        return digest(self.settings | ({} if self.start is None else {"init_from": self.start.name.split("-seed")[0]}))

    def config(self, path: str) -> RunConfig:
        """Return the complete settings, with the data at ``path``."""
        values = {name: value for name, value in self.settings.items() if name != "model_name"} | {"seed": self.seed}
        values["data"] = {"path": path, **values.get("data", {})}
        if self.start is not None:
            values["init_from"] = str(self.start)
        return read_config(self.settings.get("model_name", self.model), values)

    def key(self, part: str = "test") -> dict[str, Any]:
        """Return the key columns of the cell's row."""
        whole = {"dataset": self.dataset, "model": self.model, "variant": self.variant, "digest": self.digest}
        return {**whole, "seed": self.seed, "part": part}


class Lab:
    """One benchmark: run folders below ``runs/NAME``, rows in ``results/NAME.csv`` and ``results/NAME-significance.csv``.

    Args:
        name: Name of the benchmark.
        metrics: Metrics stored in rows, if the report has them.
        data: Folder of the data sets that are not bundled.
        runs: Folder of run folders.
        results: Folder of CSV files.
        configs: Folder of declared settings.
        by_variant: Give each variant its own run folders, as variants differ in more than settings.
    """

    def __init__(
        self,
        name: str,
        metrics: Sequence[str] = (),
        *,
        data: Path = DATA,
        runs: Path = RUNS,
        results: Path = RESULTS,
        configs: Path = CONFIGS,
        by_variant: bool = False,
    ) -> None:
        self.name, self.metrics, self.data, self.runs, self.by_variant = name, tuple(metrics), data, runs / name, by_variant
        self.configs = configs
        self.store, self.significance = Store(name, results), Significance(name, results)

    def folder(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        variant = re.sub(r"\W+", "-", cell.variant).strip("-") if self.by_variant else ""
        return self.runs / cell.dataset / cell.model / f"{f'{variant}-' if variant else ''}{cell.digest}-seed{cell.seed}"

    def finished(self, cell: Cell, part: str = "test", extra: Mapping[str, Any] | None = None) -> Row:
        """Return the row of a cell; run the cell if it has neither a row nor a run folder."""
        return self.store.find(**cell.key(part)) or self.record(cell, self.report(cell), extra, part=part)

    def record(self, cell: Cell, report: Report, extra: Mapping[str, Any] | None = None, *, part: str = "test") -> Row:
        """Store the results of one split part in a row, with further columns of the benchmark."""
        return self.store.put(
            {**cell.key(part), "settings": as_json(cell.settings), **(extra or {}), **self.measured(report, part)}
        )

    def measured(self, report: Report, part: str) -> dict[str, Any]:
        """Return the metrics of a part, and the costs of the run."""
        timing = report["timing"]
        metrics = (report["monitor"],) if part == "valid" and "monitor" in report else self.metrics
        return {
            **{metric: report[part][metric] for metric in metrics if metric in report[part]},
            "queries": report["num_queries"],
            "masked": report["masked"],
            "epochs": timing["epochs"],
            "best_epoch": timing.get("best_epoch"),
            "seconds_per_epoch": timing["seconds_per_epoch"],
            "peak_mib": report["peak_rss_mib"],
            "seconds": timing["epochs"] * timing["seconds_per_epoch"] + timing["evaluation_seconds"],
            "commit": commit(),
        }

    def report(self, cell: Cell, *, dataset: Dataset | None = None) -> Report:
        """Return the report of a cell; run the cell if it is missing, resume it if it was interrupted."""
        folder = self.folder(cell)
        if state_of(folder) != "finished":
            logger.info("%s %s %s seed %d %s", *(cell.dataset, cell.model, cell.variant, cell.seed, as_json(cell.settings)))
            started = time.perf_counter()
            config = cell.config(path_of(cell.dataset, self.data, self.configs))
            found = run(config, dataset=dataset, folder=folder, resume=state_of(folder) == "unfinished")
            shown = {metric: round(found.report["test"][metric], 4) for metric in self.metrics if metric in found.report["test"]}
            logger.info("%.0f s, %s", time.perf_counter() - started, shown)
        return report_of(folder)


def resumed(dataset: Dataset, model: str, settings: Mapping[str, Any], folder: Path) -> Run:
    """Return a run on a loaded data set; read it from its folder if it is finished, resume it if it was interrupted.

    Args:
        dataset: Data set of the run.
        model: Name of the model.
        settings: Sections of the run.
        folder: Run folder.
    """
    if state_of(folder) == "finished":
        return Run.load(folder)
    return run(read_config(model, settings), dataset=dataset, folder=folder, resume=state_of(folder) == "unfinished")


def remembered(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of a JSON file; create it if it is missing."""
    if not path.is_file():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(made), encoding="utf-8")
        temporary.replace(path)
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def as_json(settings: Mapping[str, Any]) -> str:
    """Return settings as stored in a CSV file, without the path of the data."""
    return json.dumps(portable(settings))


@cache
def commit() -> str:
    """Return the commit that is checked out; empty outside a repository."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
