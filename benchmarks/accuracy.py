"""Accuracy of all models: settings chosen on validation from a declared grid, then all seeds, then tables.

    python benchmarks/accuracy.py [--datasets tiktok amazon-baby] [--models lightgcn mgat] [--seeds 0 1 2] [--tables-only]

A cell is a data set, a model, a point of its grid and a seed. Its row in benchmarks/results/accuracy.csv or its run folder below
runs/accuracy marks it as finished, and an interrupted one resumes, so the script can be stopped and started at any time. Delete
rows to measure them again. Settings are in benchmarks/configs/DATASET/MODEL.yaml: the sections of a run, and ``grid``, the values
of every searched setting (tried with seed 0, compared by the monitored validation metric alone). Settings that all models of a data
set share, and the name of its data if it differs, are in benchmarks/configs/DATASET/dataset.yaml, if it exists.
Tables go to benchmarks/tables/DATASET.md, summaries to benchmarks/tables/accuracy.md and to the README.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.metrics import ERRORS
from gmmrec.evaluation.results import file_of
from gmmrec.runs.status import state_of
from lab import command, grid, summary
from lab.cells import Lab
from lab.paths import BENCHMARKS, ROOT
from lab.results import Row, average, count_runs, summarise
from lab.search import DEFAULT_MONITOR, is_declared, order, search, spent
from lab.summary import SHOWN
from lab.tables import line, page, shown, spreads, write

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""Columns for every data set; rating errors and impression metrics are added if there are any."""
COMPACT = ("hm-fashion-sample", "movies-small", "tiktok")
"""Data sets of the compact summary, if the README has its mark."""
EARLIER = " (earlier grid)"
COSTS = ("points tried", "epochs", "s per epoch", "peak MiB")
logger = logging.getLogger("accuracy")


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--datasets", nargs="+", default=grid.datasets())
    parser.add_argument("--models", nargs="+")
    flags = command.start(parser)
    lab = Lab("accuracy", (*METRICS, *ERRORS, *SHOWN), data=flags.data)
    for dataset in () if flags.tables_only else flags.datasets:
        for model in grid.models(dataset):
            if not flags.models or model in flags.models:
                search(lab, dataset, model, flags.seeds)
        test(lab, dataset)
    write(tables(lab))
    readme = ROOT / "README.md"
    readme.write_text(summary.fill(readme.read_text(encoding="utf-8"), lab.store, COMPACT), encoding="utf-8")


def test(lab: Lab, dataset: str) -> None:
    """Compare all models of a data set, paired by query; leave the tests as they are if values per query of a model are missing."""
    rows = summary.of_dataset(lab.store, dataset)
    folders = {name: folders_of(lab, dataset, found) for name, found in rows.items()}
    if missing := [name for name, found in folders.items() if not found]:
        logger.warning("%s: the tests are not updated, because there are no run folders of %s", dataset, ", ".join(missing))
        return
    digests = {name: found[0]["digest"] for name, found in rows.items()}
    for task, metrics in tested(rows).items():
        runs = {
            name: [load_results(folder, task) for folder in found if (folder / file_of(task)).is_file()]
            for name, found in folders.items()
        }
        runs = {name: found for name, found in runs.items() if found}
        for metric in metrics if len(runs) > 1 else ():
            lab.significance.test(runs, dataset=dataset, metric=metric, digests=digests)


def folders_of(lab: Lab, dataset: str, rows: Sequence[Row]) -> list[Path]:
    """Finished run folders behind the rows of a model."""
    found = (lab.runs / dataset / rows[0]["model"]).glob(f"{rows[0]['digest']}-seed*")
    return sorted(folder for folder in found if state_of(folder) == "finished")


def tested(rows: dict[str, list[Row]]) -> dict[str, tuple[str, ...]]:
    """Metrics that are compared on a data set, by evaluation task."""
    found: dict[str, tuple[str, ...]] = {"ranking": ("recall@20", "ndcg@20")}
    if summary.has(rows, SHOWN[0]):
        found = {"impressions": (SHOWN[0], SHOWN[-1])}
    return found | ({"rating": ("rmse",)} if summary.has(rows, "rmse") else {})


def tables(lab: Lab) -> dict[str, str]:
    """All tables, by name."""
    found = {dataset: table(lab, dataset) for dataset in dict.fromkeys(row["dataset"] for row in lab.store.rows)}
    about = "All models on all data sets; the links lead to tables with settings, deviations, significance, seconds and memory."
    return found | {"accuracy": page("Accuracy", about, summary.full(lab.store, "."))}


def table(lab: Lab, dataset: str) -> str:
    """Page of means and deviations over the seeds, the settings, and the significance of each model against the best."""
    rows = summary.of_dataset(lab.store, dataset)
    metrics = [*METRICS, *(metric for metric in (*ERRORS, *SHOWN) if summary.has(rows, metric))]
    ordered = order(rows, SHOWN[0] if SHOWN[0] in metrics else DEFAULT_MONITOR)
    lines = [line(["model", "seeds", *metrics, *COSTS]), "|---|---:|" + "---:|" * (len(metrics) + len(COSTS))]
    for name in ordered:
        found = rows[name]
        earlier = "" if is_declared(lab, dataset, name, found[0]["digest"]) else EARLIER
        costs = [shown(average(found, column), form) for column, form in (("epochs", ".0f"), ("seconds_per_epoch", ".2f"))]
        peak = max(float(row["peak_mib"]) for row in found)
        cells = [str(count_runs(found)), *spreads(found, metrics), found[0]["points"], *costs, f"{peak:.0f}"]
        lines.append(line([name + earlier, *cells]))
    settings = {name: json.loads(rows[name][0]["settings"]) for name in ordered}
    chosen = [
        f"- {name}: `{json.dumps({key: value for key, value in found.items() if key not in ('data', 'monitor')})}`"
        for name, found in settings.items()
    ]
    return page(
        dataset, head(lab, dataset, rows), "\n".join(lines), *published(dataset, rows), "Chosen settings:", "\n".join(chosen),
        *tests(lab, dataset, rows), name=dataset
    )  # fmt: skip


def head(lab: Lab, dataset: str, rows: dict[str, list[Row]]) -> str:
    """Describe the measurement."""
    first = next(iter(rows.values()))[0]
    monitors = {json.loads(found[0]["settings"]).get("monitor", DEFAULT_MONITOR) for found in rows.values()}
    shared = grid.shared_as_written(dataset)
    common = f" Settings shared by all models: `{json.dumps(shared)}`." if shared else ""
    commits = " and ".join(dict.fromkeys(row["commit"] for found in rows.values() for row in found if "commit" in row))
    return (
        f"{first['queries']} test users; the whole catalogue ranked, except items of {first['masked']}.{common} "
        f"Settings chosen on validation ({' or '.join(sorted(monitors))}) from the grids in "
        f"`benchmarks/configs/{dataset}`; mean and "
        f'standard deviation over the seeds; "earlier grid": chosen from a grid that has been replaced since, to be run again. '
        f"{spent(lab, dataset)} Made by `python benchmarks/accuracy.py --datasets {dataset}` at {commits}."
    )


def published(dataset: str, rows: dict[str, list[Row]]) -> list[str]:
    """Return published results beside ours; an empty list if there are none."""
    known = yaml.safe_load((BENCHMARKS / "published.yaml").read_text(encoding="utf-8")).get(dataset)
    if known is None:
        return []
    lines = ["| model | reported recall@20 | here | reported ndcg@20 | here |", "|---|---:|---:|---:|---:|"]
    for name, (recall, ndcg) in known["rows"].items():
        own = [summarise(rows.get(name, []), metric) for metric in ("recall@20", "ndcg@20")]
        cells = ["" if found is None else f"{found.mean:.4f}" for found in own]
        lines.append(line([name, f"{recall:.4f}", cells[0], f"{ndcg:.4f}", cells[1]]))
    return [f"Comparison with published results: {known['source']}.", "\n".join(lines)]


def tests(lab: Lab, dataset: str, rows: dict[str, list[Row]]) -> list[str]:
    """Tables of every model against the best, paired by query, and the names of models measured since."""
    parts = {False: "paired by query (seeds averaged first)", True: "paired by rating"}
    text: list[str] = []
    for is_rating, how in parts.items():
        made = [found for found in lab.significance.comparisons(dataset) if (found.metric in ERRORS) == is_rating]
        text += [f"Each model against the best, {how}:"] if made else []
        text += [found.to_markdown() for found in made]
    tested = {(row["run"], row.get("digest")) for row in lab.significance.rows(dataset=dataset)}
    if since := [name for name, found in rows.items() if tested and (name, found[0]["digest"]) not in tested]:
        text.append(f"Measured since, so not in these tests: {', '.join(since)}.")
    return text


if __name__ == "__main__":
    main()
