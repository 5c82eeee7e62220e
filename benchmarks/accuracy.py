"""Accuracy of the models, cell by cell: choose settings on validation from a declared grid, then run the seeds, then write tables.

    python benchmarks/accuracy.py [--datasets tiktok amazon-baby] [--models lightgcn mgat] [--seeds 0 1 2] [--tables-only]

Every cell (data set, model, grid point, seed) is a run folder below runs/accuracy and is skipped when it is there already, so the
script can be stopped and started at any time. A cell's settings stand in benchmarks/configs/DATASET/MODEL.yaml: the sections of a
run, and ``grid``: for every searched setting the values tried (seed 0, judged by the monitored validation metric alone). What all
models of a data set share, and where its data are if they are called otherwise, stands in benchmarks/configs/DATASET/dataset.yaml
where there is one. Tables go to benchmarks/tables/DATASET.md.
"""

import argparse
import hashlib
import itertools
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from gmmrec.data.formats.bundled import bundled_names
from gmmrec.evaluation.compare import compare
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.metrics import ERRORS
from gmmrec.evaluation.results import file_of
from gmmrec.runs.recipe import read_config, run

HERE = Path(__file__).parent
RUNS = Path("runs/accuracy")
SHARED = "dataset.yaml"
"""Settings of all models of a data set: sections of a run that every model's file may add to or overrule; ``data.path`` names a
bundled data set or a folder below --data. Without it, the data set is called as the folder of the settings."""
BEGIN, END = "<!-- accuracy: begin (made by `python benchmarks/accuracy.py --tables-only`) -->", "<!-- accuracy: end -->"
EARLIER = " (earlier grid)"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""Shown for every data set; errors of ratings join them where a model predicts ratings."""
SHOWN = ("impressions/auc", "impressions/mrr", "impressions/ndcg@5", "impressions/ndcg@10")
"""What joins them where the data tell what people were shown."""
logger = logging.getLogger("accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recommends = [path.name for path in (HERE / "configs").iterdir() if not (path / "mkgformer.yaml").is_file()]  # else: links.py
    parser.add_argument("--datasets", nargs="+", default=sorted(recommends))
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets that are not bundled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables-only", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    for dataset in arguments.datasets:
        names = [path.stem for path in sorted((HERE / "configs" / dataset).glob("*.yaml")) if path.name != SHARED]
        names = [name for name in names if not arguments.models or name in arguments.models]
        if not arguments.tables_only:
            for name in names:
                cell(dataset, name, arguments.seeds, arguments.data)
        write_table(dataset)
    write_summary()


def cell(dataset: str, name: str, seeds: list[int], data: Path) -> None:
    """Chooses the settings of one model on one data set, and runs all seeds with them."""
    values = yaml.safe_load((HERE / "configs" / dataset / f"{name}.yaml").read_text())
    grid = values.pop("grid", {})
    points = [dict(zip(grid, choice, strict=True)) for choice in itertools.product(*grid.values())]
    validated = {}
    for point in points:
        settings = settings_of(dataset, values, point, data)
        if len(points) == 1:
            validated[0.0] = settings
        else:
            monitor = settings.get("monitor", "recall@20")
            value = trained(dataset, name, settings, 0)["valid"][monitor]
            validated[-value if monitor in ERRORS else value] = settings
    chosen = validated[max(validated)]
    for seed in seeds:
        if trained(dataset, name, chosen, seed)["timing"]["epochs"] == 0:
            break  # fitted in closed form: every seed gives the same
    folder = RUNS / dataset / name
    (folder / "chosen.json").write_text(json.dumps({"settings": chosen, "points": len(points), "key": key(chosen)}, indent=2))


def settings_of(dataset: str, values: dict[str, Any], point: dict[str, Any], data: Path) -> dict[str, Any]:
    """All settings of one point of a grid."""
    common = shared(dataset)
    name = common.get("data", {}).pop("path", dataset)
    for section, value in values.items():
        common[section] = {**common.get(section, {}), **value} if isinstance(value, dict) else value
    settings = merged(common, point)
    settings["data"] = {"path": name if name in bundled_names() else str(data / name), **settings.get("data", {})}
    return settings


def shared(dataset: str) -> dict[str, Any]:
    """The settings that all models of a data set have in common."""
    file = HERE / "configs" / dataset / SHARED
    return dict(yaml.safe_load(file.read_text())) if file.is_file() else {}


def is_declared(dataset: str, name: str, chosen: str) -> bool:
    """Whether the settings with this key are a point of the grid that is declared now; if not, it was an earlier one."""
    return chosen in declared_keys(dataset, name)


@cache
def declared_keys(dataset: str, name: str) -> frozenset[str]:
    """Keys of all points of the grid of one model; none where it has no settings."""
    path = HERE / "configs" / dataset / f"{name}.yaml"
    if not path.is_file():
        return frozenset()
    values = yaml.safe_load(path.read_text()) or {}
    grid = values.pop("grid", {})
    choices = [dict(zip(grid, choice, strict=True)) for choice in itertools.product(*grid.values())]
    return frozenset(key(settings_of(dataset, values, point, Path())) for point in choices)


def folder_of(runs: Path, dataset: str, name: str, settings: dict[str, Any], seed: int) -> Path:
    """Where a run is kept."""
    return runs / dataset / name / f"{key(settings)}-seed{seed}"


def trained(dataset: str, name: str, settings: dict[str, Any], seed: int, *, runs: Path = RUNS) -> dict[str, Any]:
    """The report of one run, made if it is not there."""
    folder = folder_of(runs, dataset, name, settings, seed)
    if not (folder / "metrics.json").is_file():
        logger.info("%s %s seed %d %s", dataset, name, seed, json.dumps({k: v for k, v in settings.items() if k != "data"}))
        model_name = settings.get("model_name", name)
        values = {k: v for k, v in settings.items() if k != "model_name"} | {"seed": seed}
        started = time.perf_counter()
        finished = run(read_config(model_name, values), folder=folder, resume=(folder / "state.safetensors").is_file())
        logger.info("%.0f s, %s", time.perf_counter() - started, {m: round(finished.report["test"][m], 4) for m in METRICS})
    report: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return report


def merged(values: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """Settings with a grid point's ``section.field`` values put in.

    >>> merged({"train": {"lr": 1}}, {"model.dim": 8})
    {'train': {'lr': 1}, 'model': {'dim': 8}}
    """
    result = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for name, value in point.items():
        section, field = name.split(".")
        result.setdefault(section, {})[field] = value
    return result


def key(settings: dict[str, Any]) -> str:
    """A short name of settings, the same wherever the data lie."""
    content = {name: value for name, value in settings.items() if name != "data"} | {
        "data": {name: value for name, value in settings.get("data", {}).items() if name != "path"}
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def write_table(dataset: str) -> None:
    """Means and deviations over the seeds, and the significance of each model against the best of the others."""
    rows, users, ratings = {}, {}, {}
    for chosen in sorted((RUNS / dataset).glob("*/chosen.json")):
        name, choice = chosen.parent.name, json.loads(chosen.read_text())
        folders = sorted(chosen.parent.glob(f"{choice['key']}-seed*"))
        folders = [folder for folder in folders if (folder / "metrics.json").is_file()]
        rows[name] = (choice, [json.loads((folder / "metrics.json").read_text()) for folder in folders])
        shown = (folders[0] / file_of("impressions")).is_file()  # rankings may then be of other questions: by user, or impression
        users[name] = [load_results(folder, "impressions" if shown else "ranking") for folder in folders]
        if (folders[0] / file_of("rating")).is_file():
            ratings[name] = [load_results(folder, "rating") for folder in folders]
    if not rows:
        return
    missing = set(read_table(dataset).index) - set(rows) if table_of(dataset).is_file() else set()
    if missing:
        logger.warning("table of %s left as it is: it has %s, of which no run is here", dataset, ", ".join(sorted(missing)))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    first = next(iter(rows.values()))[1][0]
    monitor = " or ".join(sorted({choice["settings"].get("monitor", "recall@20") for choice, _ in rows.values()}))
    metrics = (*METRICS, *(ERRORS if ratings else ()), *(SHOWN if SHOWN[0] in first["test"] else ()))
    common = f" Settings that all models share: `{json.dumps(shared(dataset))}`." if shared(dataset) else ""
    lines = [
        f"# {dataset}",
        "",
        f"{first['num_questions']} test users, the whole catalogue ranked, items known from {first['masked']} left out.{common} "
        f"Settings chosen on validation ({monitor}) from the grids in `benchmarks/configs/{dataset}`; mean and standard deviation "
        f'over the seeds; "earlier grid": chosen from one that has been replaced since, to be run again. {spent(dataset)} '
        f"Made by `python benchmarks/accuracy.py --datasets {dataset}` at {commit}.",
        "",
        "| model | seeds | " + " | ".join(metrics) + " | points tried | epochs | s per epoch | peak MiB |",
        "|---|---:|" + "---:|" * (len(metrics) + 4),
    ]
    leading = SHOWN[0] if SHOWN[0] in metrics else "recall@20"
    order = sorted(rows, key=lambda name: -mean(rows[name][1], leading))
    for name in order:
        choice, reports = rows[name]
        cells = [f"{mean(reports, m):.4f} ± {deviation(reports, m):.4f}" if m in reports[0]["test"] else "" for m in metrics]
        timing = pd.DataFrame([report["timing"] for report in reports]).mean()
        memory = max(report["peak_rss_mib"] for report in reports)
        cells += [f"{choice['points']}", f"{timing.epochs:.0f}", f"{timing.seconds_per_epoch:.2f}", f"{memory:.0f}"]
        earlier = "" if is_declared(dataset, name, choice["key"]) else EARLIER
        lines.append(f"| {name}{earlier} | {len(reports)} | {' | '.join(cells)} |")
    lines += published(dataset, {name: reports for name, (_, reports) in rows.items()})
    lines += ["", "Settings chosen:", ""]
    for name in order:
        settings = {k: v for k, v in rows[name][0]["settings"].items() if k not in ("data", "monitor")}
        lines.append(f"- {name}: `{json.dumps(settings)}`")
    if len(users) > 1:
        lines += ["", "Each against the best, question by question (seeds averaged first):"]
        compared = (SHOWN[0], SHOWN[-1]) if SHOWN[0] in metrics else ("recall@20", "ndcg@20")
        lines += ["\n" + compare(users, metric=metric).to_markdown() for metric in compared]
    if len(ratings) > 1:
        lines += ["", "Each against the best, rating by rating:", "\n" + compare(ratings, metric="rmse").to_markdown()]
    table_of(dataset).parent.mkdir(exist_ok=True)
    table_of(dataset).write_text("\n".join(lines) + "\n")


def published(dataset: str, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines that put what others report for a data set beside what was found; none where nothing is known."""
    known = yaml.safe_load((HERE / "published.yaml").read_text()).get(dataset)
    if known is None:
        return []
    lines = ["", f"Beside what others report: {known['source']}.", ""]
    lines += ["| model | reported recall@20 | here | reported ndcg@20 | here |", "|---|---:|---:|---:|---:|"]
    for name, (recall, ndcg) in known["rows"].items():
        own = [f"{mean(found[name], metric):.4f}" if name in found else "" for metric in ("recall@20", "ndcg@20")]
        lines.append(f"| {name} | {recall:.4f} | {own[0]} | {ndcg:.4f} | {own[1]} |")
    return lines


def spent(dataset: str) -> str:
    """How many runs there are of the grids of a data set, and how long they took; and all runs, those of earlier grids included."""
    every = {file.parent: json.loads(file.read_text())["timing"] for file in (RUNS / dataset).glob("*/*/metrics.json")}
    declared = {folder: t for folder, t in every.items() if is_declared(dataset, folder.parent.name, folder.name.split("-seed")[0])}

    def told(timings: Iterable[dict[str, float]]) -> str:
        seconds = [timing["epochs"] * timing["seconds_per_epoch"] + timing["evaluation_seconds"] for timing in timings]
        return f"{len(seconds)} runs took {sum(seconds) / 3600:.1f} hours of one thread"

    text = f"All {told(declared.values())}, grid points included."
    earlier = [timing for folder, timing in every.items() if folder not in declared]
    return f"{text} {told(earlier).capitalize()} more, on grids that have been replaced since." if earlier else text


def write_summary() -> None:
    """A table for every kind of question, of all data sets where it is asked, into the README between its two marks.

    Read from the tables of the data sets, so that it is whole wherever these are, whichever runs are there.
    """
    kinds: dict[tuple[str, tuple[str, str]], dict[str, pd.DataFrame]] = {}
    for folder in sorted((HERE / "configs").iterdir()):
        if table_of(folder.name).is_file():
            found = read_table(folder.name)
            kinds.setdefault(kind_of(folder.name, found), {})[folder.name] = found
    text = "\n\n".join(summary(title, metrics, found) for (title, metrics), found in sorted(kinds.items()))
    readme = HERE.parent / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])


def table_of(dataset: str) -> Path:
    """Where the table of a data set stands."""
    return HERE / "tables" / f"{dataset}.md"


def read_table(dataset: str) -> pd.DataFrame:
    """The means of a data set's table: a row a model, a column a metric; NaN where a metric does not apply."""
    lines = table_of(dataset).read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| model | seeds |"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in itertools.takewhile(lambda x: x, lines[first:])]
    table = pd.DataFrame(rows[2:], columns=rows[0]).drop(columns="seeds")
    models = table.pop("model").str.removesuffix(EARLIER).tolist()
    means: pd.DataFrame = table.map(lambda cell: float(cell.split(" ± ")[0] or "nan")).set_axis(models)
    return means


def kind_of(dataset: str, found: pd.DataFrame) -> tuple[str, tuple[str, str]]:
    """What is asked on a data set, in words, and the two metrics that are shown."""
    if "rmse" in found:
        return "Ratings (rmse / mae, lower is better)", ("rmse", "mae")
    if SHOWN[0] in found:
        return "What of all that was shown is clicked (auc / ndcg@10)", (SHOWN[0], SHOWN[-1])
    if shared(dataset).get("split", {}).get("strategy") == "leave_last_out":
        return "What comes next (recall@10, the hit rate / ndcg@10)", ("recall@10", "ndcg@10")
    return "All that a user will like (recall@20 / ndcg@20)", ("recall@20", "ndcg@20")


def summary(title: str, metrics: tuple[str, str], found: dict[str, pd.DataFrame]) -> str:
    """One table: a row a model, a column a data set; best first on the last data set."""
    columns = {
        f"[{name}](benchmarks/tables/{name}.md)": table[list(metrics)]
        .dropna()
        .apply(lambda row: " / ".join(f"{value:.4f}" for value in row), axis=1)
        for name, table in found.items()
    }
    whole = pd.DataFrame(columns)
    rank = next(reversed(found.values()))[metrics[0]].reindex(whole.index)
    whole = whole.loc[rank.sort_values(ascending=metrics[0] in ERRORS, kind="stable").index].fillna("")
    lines = [f"| {model} | " + " | ".join(cells) + " |" for model, cells in zip(whole.index, whole.to_numpy(), strict=True)]
    return "\n".join([f"{title}:", "", "| model | " + " | ".join(whole) + " |", "|---|" + "---:|" * len(found), *lines])


def mean(reports: list[dict[str, Any]], metric: str) -> float:
    return float(torch.tensor([report["test"][metric] for report in reports], dtype=torch.double).mean())


def deviation(reports: list[dict[str, Any]], metric: str) -> float:
    values = torch.tensor([report["test"][metric] for report in reports], dtype=torch.double)
    return float(values.std()) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
