"""What a dense region teaches sparse ones: MMT-Net alone, with the source's modules trained on, and with them frozen.

    python data_scripts/regions.py foursquare-us-regions --out runs/content/foursquare
    python benchmarks/transfer.py [--data runs/content/foursquare] [--source new-york] [--regions phoenix seattle] [--seeds 0 1 2]

Every way to train has the same grid of learning rates and of the spread of initial embeddings; the point whose validation recall@20
is best on average over the regions (seed 0) serves all regions and seeds. With --share the regions are made sparser still. Runs are
kept below runs/transfer and skipped when they are there, so that an interrupted benchmark goes on. The table says recall@20 and
ndcg@20 over held-out visits (who and when, all places of the region ranked but known ones), what training cost, and the differences
to training alone over all regions together, paired by visit.
"""

import argparse
import json
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gmmrec
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.significance import bootstrap_intervals, sign_flip_test
from gmmrec.models.popularity import Popularity
from gmmrec.runs.recipe import read_config, run
from gmmrec.tasks.context import ContextTask
from gmmrec.tasks.inputs import TaskInputs

HERE = Path(__file__).parent
REGIONS = ["los-angeles", "boston", "miami", "phoenix", "seattle", "pittsburgh", "new-orleans", "indianapolis"]
WAYS = {"alone": "none", "layers": "layers", "drr": "drr"}
GRID = [(lr, init_std) for lr in (3e-3, 1e-2) for init_std in (0.01, 0.1)]
METRICS = ("recall@20", "ndcg@20")
MODEL = {"dim": 32}
TRAIN = {"num_negatives": 8, "batch_size": 256, "epochs": 100, "patience": 10, "checkpoint_every": 0, "progress": False}
SOURCE = {"lr": 3e-3, "batch_size": 1024, "epochs": 18, "evaluate_every": 6}
logger = logging.getLogger("transfer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/content/foursquare"))
    parser.add_argument("--source", default="new-york")
    parser.add_argument("--regions", nargs="+", default=REGIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="share of the regions' training visits that is kept")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(1)
    data, out = arguments.data, arguments.out / arguments.data.name
    source, name = out / arguments.source, data.name
    trained(source, data / arguments.source, TRAIN | SOURCE, MODEL, 0)
    if arguments.share < 1:
        name = f"{name}-{round(100 * arguments.share)}"
        data, out = thinned(data, arguments.regions, arguments.share, out.with_name(name)), out.with_name(name)

    def fitted(region: str, way: str, point: tuple[float, float], seed: int) -> Path:
        rate, init_std = point
        folder = out / region / f"{way}-{rate:g}-{init_std:g}-seed{seed}"
        init = None if way == "alone" else source
        model = MODEL | {"transfer": WAYS[way], "init_std": init_std}
        trained(folder, data / region, TRAIN | {"lr": rate}, model, seed, init)
        return folder

    chosen = {}
    for way in WAYS:
        valid = {
            point: [report(fitted(region, way, point, 0))["valid"]["recall@20"] for region in arguments.regions] for point in GRID
        }
        chosen[way] = max(valid, key=lambda point: sum(valid[point]))
    folders = {
        region: {way: [fitted(region, way, point, seed) for seed in arguments.seeds] for way, point in chosen.items()}
        for region in arguments.regions
    }
    kept = f", {arguments.share:.0%} of the regions' training visits" if arguments.share < 1 else ""
    text = f"# Transfer from {arguments.source} ({arguments.data.name}{kept})\n\n"
    points = ", ".join(f"{way} {rate:g} and {init_std:g}" for way, (rate, init_std) in chosen.items())
    text += f"Learning rates and spreads of initial embeddings chosen on validation: {points}. "
    text += f"Means over seeds {', '.join(map(str, arguments.seeds))}; seconds of one CPU thread for a run, evaluations included; "
    command = " ".join(["python benchmarks/transfer.py", *sys.argv[1:]])
    text += f"the source took {report(source)['cpu_seconds']:.0f} s, once. Made by `{command}`.\n\n"
    text += by_region(folders, data) + "\n\n## All regions together\n\n" + pooled(folders)
    path = HERE / "tables" / f"transfer-{name}.md"
    path.write_text(text + "\n")
    print(text)


def thinned(data: Path, regions: list[str], share: float, out: Path) -> Path:
    """A folder with the same regions and that share of their training visits, drawn with seed 0; places and test stay."""
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


def trained(folder: Path, data: Path, train: dict[str, Any], model: dict[str, Any], seed: int, source: Path | None = None) -> None:
    """One run, made if it is not there."""
    if (folder / "cpu.json").is_file():
        return
    values = {"data": {"path": str(data)}, "train": train, "model": model, "seed": seed, "eval": {"bootstrap": 0, "ks": (20,)}}
    if source is not None:
        values["init_from"] = str(source)
    started = time.process_time()
    finished = run(read_config("mmt-net", values), folder=folder)
    (folder / "cpu.json").write_text(json.dumps({"cpu_seconds": time.process_time() - started}))
    logger.info("%s %s", folder, {metric: round(finished.report["test"][metric], 4) for metric in METRICS})


def report(folder: Path) -> dict[str, Any]:
    """What a run found, and what it cost."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found | json.loads((folder / "cpu.json").read_text())


def by_region(folders: dict[str, dict[str, list[Path]]], data: Path) -> str:
    """A row a region and way to train, popularity first."""
    rows = []
    for region, ways in folders.items():
        first = gmmrec.load(next(iter(ways.values()))[0])
        questions = ContextTask(TaskInputs(first.split, *(len(first.vocabularies[kind]) for kind in ("user", "item")))).ranking(
            "test"
        )
        popular = evaluate(Popularity(first.graph.schema), first.graph, questions, ks=(20,), bootstrap=0).mean()
        rows.append({"region": f"{region} ({len(first.split.train)} visits)", "way": "popularity"} | format_means([popular]))
        for way, runs in ways.items():
            reports = [report(folder) for folder in runs]
            cost = {name: sum(values) / len(values) for name, values in costs(reports).items()}
            rows.append(
                {"region": "", "way": way}
                | format_means([found["test"] for found in reports])
                | {"best epoch": f"{cost['epoch']:.0f}", "seconds": f"{cost['seconds']:.1f}"}
            )
    return str(pd.DataFrame(rows).fillna("").to_markdown(index=False))


def costs(reports: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Best epochs and seconds."""
    return {"epoch": [r["timing"]["best_epoch"] for r in reports], "seconds": [r["cpu_seconds"] for r in reports]}


def format_means(found: list[dict[str, float]]) -> dict[str, str]:
    """Means over runs by metric."""
    return {metric: f"{sum(values[metric] for values in found) / len(found):.4f}" for metric in METRICS}


def pooled(folders: dict[str, dict[str, list[Path]]]) -> str:
    """Means over the visits of all regions, and differences to training alone, paired by visit (means over seeds)."""
    rows = []
    for metric in METRICS:
        values = {
            way: torch.cat([seed_mean([load_results(folder) for folder in ways[way]], metric) for ways in folders.values()])
            for way in WAYS
        }
        differences = {way: value - values["alone"] for way, value in values.items() if way != "alone"}
        p = sign_flip_test(torch.stack(list(differences.values()), 1), 10_000, torch.Generator().manual_seed(0))
        ends = bootstrap_intervals(differences, 10_000, torch.Generator().manual_seed(0))
        rows.append({"metric": metric, "way": "alone", "mean": f"{float(values['alone'].mean()):.4f}"})
        for (way, difference), chance in zip(differences.items(), p, strict=True):
            low, high = ends[way]
            change = {"difference": f"{float(difference.mean()):+.4f}", "95 % interval": f"{low:+.4f} to {high:+.4f}"}
            rows.append(
                {"metric": "", "way": way, "mean": f"{float(values[way].mean()):.4f}"} | change | {"p": f"{float(chance):.2g}"}
            )
    return str(pd.DataFrame(rows).fillna("").to_markdown(index=False))


def seed_mean(results: list[Results], metric: str) -> torch.Tensor:
    """Mean over seeds by question ``[Q]``; all were asked the same."""
    first = results[0]
    if any(not torch.equal(first.relevant, other.relevant) for other in results):
        raise ValueError("runs of one region were asked different questions; remove runs/transfer and start again")
    return torch.stack([found.values[metric].double() for found in results]).mean(0)


if __name__ == "__main__":
    main()
