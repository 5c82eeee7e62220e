"""Transfer from a dense region to sparse ones: MMT-Net alone, and with the modules of the source, fine-tuned or frozen.

    python data_scripts/regions.py foursquare-us-regions --out runs/content/foursquare
    python benchmarks/transfer.py [--data runs/content/foursquare] [--source new-york] [--regions phoenix seattle] [--seeds 0 1 2]
        [--share 0.1] [--tables-only]

Every training method has the same grid of learning rates and standard deviations of initial embeddings; the point with the best
validation recall@20 on average over the regions (seed 0) is used for all regions and seeds. With --share the regions are made even
sparser. Run folders are kept below runs/transfer, results in benchmarks/results/transfer.csv; existing ones are not run again, and
an interrupted run resumes. The table has recall@20 and ndcg@20 over held-out visits (a query is a user and a time; all venues of
the region except known ones are ranked), the cost of training, and the differences to training alone over all regions, paired by
visit.
"""

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gmmrec
from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.significance import bootstrap_intervals, sign_flip_test
from gmmrec.models.popularity import Popularity
from gmmrec.runs.folder import report_of as report_in
from gmmrec.runs.status import state_of
from gmmrec.tasks.context import ContextTask
from gmmrec.tasks.inputs import TaskInputs
from lab import command
from lab.cells import Report, as_json, commit, read_json
from lab.grid import digest
from lab.recipe import read_config, run
from lab.results import Row, Store, average, summarise
from lab.significance import Significance
from lab.tables import by, markdown, page, seeds_of, shown, write

KEYS = ("dataset", "region", "way", "digest", "seed")
MODEL_NAME = "mmt-net"
REGIONS = ["los-angeles", "boston", "miami", "phoenix", "seattle", "pittsburgh", "new-orleans", "indianapolis"]
WAYS = {"alone": "none", "layers": "layers", "drr": "drr"}
GRID = [(lr, init_std) for lr in (3e-3, 1e-2) for init_std in (0.01, 0.1)]
METRICS = ("recall@20", "ndcg@20")
MODEL = {"dim": 32}
TRAIN = {"num_negatives": 8, "batch_size": 256, "epochs": 100, "patience": 10, "checkpoint_every": 0, "progress": False}
SOURCE = {"lr": 3e-3, "batch_size": 1024, "epochs": 18, "evaluate_every": 6}
RUNS = Path("runs/transfer")
logger = logging.getLogger("transfer")


def main() -> None:
    parser = command.parser(__doc__, threads=1, data=False)
    parser.add_argument("--data", type=Path, default=Path("runs/content/foursquare"))
    parser.add_argument("--source", default="new-york")
    parser.add_argument("--regions", nargs="+", default=REGIONS)
    parser.add_argument("--share", type=float, default=1.0, help="share of the regions' training visits to keep")
    flags = command.start(parser)
    store, tests = Store("transfer", keys=KEYS), Significance("transfer")
    if not flags.tables_only:
        made_by = f"python benchmarks/transfer.py {command.given(parser, flags)}".strip()
        measure(store, tests, flags.data, flags.source, flags.regions, flags.seeds, flags.share, made_by)
    write(tables(store, tests))


def measure(
    store: Store, tests: Significance, data: Path, source: str, regions: list[str], seeds: list[int], share: float, made_by: str
) -> None:
    """Train the source, search every training method, run the seeds, and keep the results instead of earlier ones."""
    out, name = RUNS / data.name, data.name
    teacher = out / source
    report_of(teacher, data / source, {"train": TRAIN | SOURCE, "model": MODEL}, 0)
    about = {"source": source, "share": share, "command": made_by, "commit": commit(), "teacher_seconds": cost_of(teacher)}
    if share < 1:
        name = f"{name}-{round(100 * share)}"
        data, out = thinned(data, regions, share, out.with_name(name)), out.with_name(name)
    chosen = {way: best_point(way, data, out, regions, teacher) for way in WAYS}
    folders: dict[str, dict[str, list[Path]]] = {region: {way: [] for way in WAYS} for region in regions}
    rows: list[dict[str, Any]] = []
    for region in regions:
        for way, settings in chosen.items():
            for seed in seeds:
                folder = folder_of(out, region, way, settings, seed)
                report = report_of(folder, data / region, settings, seed, None if way == "alone" else teacher)
                cost = {"best_epoch": report["timing"]["best_epoch"], "seconds": cost_of(folder)}
                where = {"dataset": name, "region": region, "way": way, "digest": digest(settings), "seed": seed}
                found = {metric: report["test"][metric] for metric in METRICS}
                rows.append(where | {"settings": as_json(settings)} | found | cost | about)
                folders[region][way].append(folder)
        visits, popular = popularity(folders[region]["alone"][0])
        where = {"dataset": name, "region": region, "way": "popularity"}
        rows.append(where | {metric: popular[metric] for metric in METRICS} | {"visits": visits} | about)
    store.replace(rows, dataset=name)
    compare_all(tests, name, folders)


def settings_of(way: str, rate: float, init_std: float) -> dict[str, Any]:
    """Settings of a point of the grid."""
    return {"train": TRAIN | {"lr": rate}, "model": MODEL | {"transfer": WAYS[way], "init_std": init_std}}


def folder_of(out: Path, region: str, way: str, settings: dict[str, Any], seed: int) -> Path:
    """Folder of a run."""
    return out / region / f"{way}-{digest(settings)}-seed{seed}"


def best_point(way: str, data: Path, out: Path, regions: list[str], teacher: Path) -> dict[str, Any]:
    """Point with the best validation recall on average over the regions, with seed 0."""

    def validated(settings: dict[str, Any]) -> float:
        start = None if way == "alone" else teacher
        reports = [report_of(folder_of(out, region, way, settings, 0), data / region, settings, 0, start) for region in regions]
        return float(sum(report["valid"]["recall@20"] for report in reports))

    return max((settings_of(way, *point) for point in GRID), key=validated)


def thinned(data: Path, regions: list[str], share: float, out: Path) -> Path:
    """Folder with the same regions and a share of their training visits, drawn with seed 0; venues and test stay the same."""
    for region in regions:
        folder = out / "data" / region
        if folder.is_dir():
            continue
        visits = pd.read_csv(data / region / "interactions.csv.gz", dtype=str)
        learned = visits[visits["split"] == "train"]
        visits = visits.drop(learned.sample(frac=1 - share, random_state=0).index)
        shutil.copytree(data / region, folder)
        visits.to_csv(folder / "interactions.csv.gz", index=False)
    return out / "data"


def report_of(folder: Path, data: Path, settings: dict[str, Any], seed: int, source: Path | None = None) -> Report:
    """Report of one run; computed if it does not exist, resumed if it was interrupted."""
    if not (folder / "cpu.json").is_file():
        values = {"data": {"path": str(data)}, "seed": seed, "eval": {"bootstrap": 0, "ks": (20,)}, **settings}
        if source is not None:
            values["init_from"] = str(source)
        started = time.process_time()
        finished = run(read_config(MODEL_NAME, values), folder=folder, resume=state_of(folder) == "unfinished")
        (folder / "cpu.json").write_text(json.dumps({"cpu_seconds": time.process_time() - started}), encoding="utf-8")
        logger.info("%s %s", folder, {metric: round(finished.report["test"][metric], 4) for metric in METRICS})
    return report_in(folder)


def cost_of(folder: Path) -> float:
    """CPU seconds of a run."""
    return float(read_json(folder / "cpu.json")["cpu_seconds"])


def popularity(folder: Path) -> tuple[int, dict[str, float]]:
    """Number of training visits of a run's region, and metrics of popularity there."""
    run_ = gmmrec.load(folder)
    sizes = len(run_.vocabularies["user"]), len(run_.vocabularies["item"])
    ranking = ContextTask(TaskInputs(run_.split, *sizes)).ranking("test")
    found = evaluate(Popularity(run_.graph.schema), run_.graph, ranking, ks=(20,), bootstrap=0)
    return len(run_.split.train), found.mean()


def compare_all(tests: Significance, name: str, folders: dict[str, dict[str, list[Path]]]) -> None:
    """Keep means over the visits of all regions, and differences to training alone, paired by visit (means over seeds)."""
    rows: list[dict[str, Any]] = []
    for metric in METRICS:
        values = {
            way: torch.cat([seed_mean([load_results(folder) for folder in ways[way]], metric) for ways in folders.values()])
            for way in WAYS
        }
        differences = {way: value - values["alone"] for way, value in values.items() if way != "alone"}
        p = sign_flip_test(torch.stack(list(differences.values()), 1), 10_000, torch.Generator().manual_seed(0))
        ends = bootstrap_intervals(differences, 10_000, torch.Generator().manual_seed(0))
        where = {"dataset": name, "metric": metric, "group": "all", "reference": "alone"}
        rows.append(where | {"run": "alone", "mean": float(values["alone"].mean())})
        for (way, difference), chance in zip(differences.items(), p, strict=True):
            found = {"mean": float(values[way].mean()), "difference": float(difference.mean()), "p": float(chance)}
            rows.append(where | {"run": way, **found, "low": ends[way][0], "high": ends[way][1]})
    tests.store.replace(rows, dataset=name)


def seed_mean(results: list[Results], metric: str) -> torch.Tensor:
    """Mean over seeds per query ``[Q]``; all seeds have the same queries."""
    first = results[0]
    if any(not torch.equal(first.relevant, other.relevant) for other in results):
        raise UsageError("expected the same queries in all runs of a region, but they differ; remove runs/transfer and start again")
    return torch.stack([found.values[metric].double() for found in results]).mean(0)


def tables(store: Store, tests: Significance) -> dict[str, str]:
    """A page per data set."""
    return {f"transfer-{name}": table(name, rows, tests) for (name,), rows in by(store.rows, "dataset").items()}


def table(name: str, rows: list[Row], tests: Significance) -> str:
    """Page by region and training method, popularity first; then all regions together."""
    first = rows[0]
    share = float(first["share"])
    kept = f", {share:.0%} of the regions' training visits" if share < 1 else ""
    base = name.rsplit("-", 1)[0] if share < 1 else name
    points = {row["way"]: json.loads(row["settings"]) for row in rows if "settings" in row}
    chosen = ", ".join(f"{way} {found['train']['lr']:g} and {found['model']['init_std']:g}" for way, found in points.items())
    seeds = seeds_of([row for row in rows if row["way"] != "popularity"])
    about = (
        f"Learning rates and standard deviations of initial embeddings chosen on validation: {chosen}. Means over seeds "
        f"{', '.join(map(str, seeds))}; seconds of one CPU thread per run, evaluation included; the source took "
        f"{float(first['teacher_seconds']):.0f} s, once. Made by `{first['command']}`."
    )
    header = ["region", "training", *METRICS, "best epoch", "seconds"]
    parts = [markdown(header, by_region(rows)), "## All regions", together(tests.rows(dataset=name))]
    return page(f"Transfer from {first['source']} ({base}{kept})", about, *parts)


def by_region(rows: list[Row]) -> list[list[str]]:
    """One row per region and training method, popularity first."""
    lines = []
    for (region,), found in by(rows, "region").items():
        ways = by(sorted(found, key=lambda row: row["way"] != "popularity"), "way")
        for (way,), of_way in ways.items():
            label = f"{region} ({of_way[0]['visits']} visits)" if way == "popularity" else ""
            means = [summarise(of_way, metric) for metric in METRICS]
            cost = [shown(average(of_way, "best_epoch"), ".0f"), shown(average(of_way, "seconds"), ".1f")]
            lines.append([label, way, *(shown(None if mean is None else mean.mean) for mean in means), *cost])
    return lines


def together(rows: list[Row]) -> str:
    """Table of means and differences over the visits of all regions."""
    lines, metric = [], ""
    for row in rows:
        cells = [row["metric"] if row["metric"] != metric else "", row["run"], f"{float(row['mean']):.4f}"]
        if "p" in row:
            low, high = float(row["low"]), float(row["high"])
            cells += [f"{float(row['difference']):+.4f}", f"{low:+.4f} to {high:+.4f}", f"{float(row['p']):.2g}"]
        lines.append(cells + [""] * (6 - len(cells)))
        metric = row["metric"]
    return markdown(["metric", "training", "mean", "difference", "95 % interval", "p"], lines)


if __name__ == "__main__":
    main()
