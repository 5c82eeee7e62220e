"""Choice of settings on validation from a declared grid, and runs of all seeds with them."""

import json
from collections.abc import Sequence

from gmmrec.evaluation.metrics import ERRORS
from lab import grid
from lab.cells import Cell, Lab
from lab.grid import Settings
from lab.results import RUNS, SEED, Row, number, summarise

DEFAULT_MONITOR = "recall@20"


def search(lab: Lab, dataset: str, model: str, seeds: Sequence[int]) -> None:
    """Choose the settings of one model with seed 0 on validation, and run all seeds with them.

    Results of earlier choices are dropped once the new ones are complete.
    """
    points = grid.points(dataset, model, lab.configs)
    if (settings := known(lab, dataset, model, points)) is None:
        settings = best(lab, dataset, model, points)
    chosen = grid.digest(settings)
    rows = lab.store.select(dataset=dataset, model=model, digest=chosen, part="test")
    if not is_complete(rows, seeds):
        for seed in seeds:
            row = lab.finished(Cell(dataset, model, settings, seed), extra={"points": len(points)})
            if number(row, "epochs") == 0:
                break  # fitted in closed form: every seed gives the same
    kept = [row for row in lab.store.select(dataset=dataset, model=model, part="test") if row["digest"] == chosen]
    lab.store.replace(kept, dataset=dataset, model=model, part="test")


def known(lab: Lab, dataset: str, model: str, points: Sequence[Settings]) -> Settings | None:
    """Settings that an earlier search over the same points chose."""
    declared = {grid.digest(point) for point in points}
    for row in lab.store.select(dataset=dataset, model=model, part="test"):
        if row["digest"] in declared and row.get("points") == str(len(points)):
            settings: Settings = json.loads(row["settings"])
            return settings
    return None


def is_complete(rows: Sequence[Row], seeds: Sequence[int]) -> bool:
    """Return whether a summary covers as many runs as there are seeds."""
    return any(SEED not in row and (int(row[RUNS]) >= len(seeds) or number(row, "epochs") == 0) for row in rows)


def best(lab: Lab, dataset: str, model: str, points: Sequence[Settings]) -> Settings:
    """Point with the best monitored validation metric, with seed 0."""
    if len(points) == 1:
        return points[0]
    validated: dict[float, Settings] = {}
    for point in points:
        monitor = point.get("monitor", DEFAULT_MONITOR)
        value = float(lab.finished(Cell(dataset, model, point), "valid")[monitor])
        validated[-value if monitor in ERRORS else value] = point
    return validated[max(validated)]


def is_declared(lab: Lab, dataset: str, model: str, digest: str) -> bool:
    """Return whether settings are a point of the declared grid, not of an earlier one."""
    return digest in {grid.digest(point) for point in grid.points(dataset, model, lab.configs)}


def spent(lab: Lab, dataset: str) -> str:
    """Number and duration of the runs of a data set, separately for grids that have been replaced since."""
    rows = [row for row in lab.store.select(dataset=dataset) if row.get("seconds")]
    unique = {(row["model"], row["digest"], row.get(SEED, "")): row for row in rows if "model" in row}
    declared = [row for (model, digest, _), row in unique.items() if is_declared(lab, dataset, model, digest)]
    earlier = [row for (model, digest, _), row in unique.items() if not is_declared(lab, dataset, model, digest)]
    declared += lab.store.select(dataset=dataset, part="spent")  # summaries of runs from before rows were kept
    earlier += lab.store.select(dataset=dataset, part="spent on earlier grids")
    text = f"All {_duration(declared)}, grid points included."
    return f"{text} Earlier grids: {_duration(earlier)}." if earlier else text


def _duration(rows: Sequence[Row]) -> str:
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    runs = sum(int(row.get(RUNS, "1")) for row in rows)
    return f"{runs} runs took {hours:.1f} hours of one thread"


def order(rows: dict[str, list[Row]], metric: str) -> list[str]:
    """Models ordered by a metric, best first; those without it last."""

    def rank(name: str) -> tuple[bool, float]:
        found = summarise(rows[name], metric)
        return found is None, 0.0 if found is None else found.mean if metric in ERRORS else -found.mean

    return sorted(rows, key=rank)
