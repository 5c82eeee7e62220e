"""The best we can do on a data set: a search over GraphFusion, then a blend with closed forms; everything chosen on validation.

    python benchmarks/best.py [--dataset tiktok] [--threads 2]

POINTS are tried with seed 0 and judged by the monitored validation metric; the best one is trained with all seeds. It is then
blended (``gmmrec blend``) with the runs that ``accuracy.py`` chose for BLENDED, weights chosen on validation too: for every seed
alone, and once with all seeds together. Runs are kept below runs/best and skipped when they are there; the table goes to
benchmarks/tables/best-DATASET.md.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import accuracy
import pandas as pd
import torch

import gmmrec

HERE = Path(__file__).parent
RUNS = Path("runs/best")
BASE: dict[str, Any] = {
    "monitor": "ndcg@20",
    "train": {"lr": 1e-3, "epochs": 300, "patience": 20, "progress": False, "checkpoint_every": 0},
    "model": {"dim": 128, "num_layers": 3, "edge_dropout": 0.1, "knn_degrees": "both_ends"},
}
POINTS: list[dict[str, Any]] = [
    {},
    {"model.edge_dropout": 0.3},
    {"model.num_layers": 4, "model.edge_dropout": 0.2},
    {"model.item_layers": 2},
    {"model.knn_weighting": "cosine", "model.knn": 20},
    {"model.content": "linear", "model.fusion": "attention"},
    {"model.content": "light", "model.fusion": "sum"},
    {"model.content": "linear", "model.fusion": "attention", "model.contrast_weight": 0.01},
]
BLENDED = ("graph-filter", "cease")
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
logger = logging.getLogger("best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tiktok")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    dataset, seeds = arguments.dataset, arguments.seeds
    path = dataset if dataset == "movies-small" else f"../shared/data/{dataset}"
    tried = []
    for point in POINTS:
        settings = accuracy.merged(BASE, point) | {"data": {"path": path}}
        report = accuracy.trained(dataset, "graph-fusion", settings, 0, runs=RUNS)
        tried.append((report["valid"][BASE["monitor"]], settings, point))
    _, chosen, point = max(tried, key=lambda entry: entry[0])
    for seed in seeds:
        accuracy.trained(dataset, "graph-fusion", chosen, seed, runs=RUNS)
    ours = [accuracy.folder_of(RUNS, dataset, "graph-fusion", chosen, seed) for seed in seeds]
    closed = [folder for name in BLENDED if (folder := chosen_run(dataset, name)) is not None]
    rows = [row("graph-fusion, chosen", [json.loads((folder / "metrics.json").read_text()) for folder in ours])]
    rows += [row(folder.parent.name, [json.loads((folder / "metrics.json").read_text())]) for folder in closed]
    alone = [blended([folder, *closed], RUNS / dataset / f"blend-seed{seed}") for folder, seed in zip(ours, seeds, strict=True)]
    rows.append(row(f"blend with {' and '.join(BLENDED)}, a seed at a time", alone))
    rows.append(row("blend of all seeds with both", [blended([*ours, *closed], RUNS / dataset / "blend-all")]))
    table = pd.DataFrame(rows).to_markdown(index=False)
    points = pd.DataFrame([{"point": json.dumps(p) if p else "base", BASE["monitor"]: f"{value:.4f}"} for value, _, p in tried])
    text = f"""# The best on {dataset}

Everything chosen on validation ({BASE["monitor"]}); test figures, training items left out, mean and deviation over the seeds.
Made by `python benchmarks/best.py --dataset {dataset}`.

{table}

The search, validation, seed 0, from `{json.dumps(BASE)}`; chosen: `{json.dumps(point)}`.

{points.to_markdown(index=False)}
"""
    (HERE / "tables" / f"best-{dataset}.md").write_text(text)
    print(text)


def chosen_run(dataset: str, name: str) -> Path | None:
    """The run with seed 0 that accuracy.py chose; None where it has not been there."""
    chosen = accuracy.RUNS / dataset / name / "chosen.json"
    return chosen.parent / f"{json.loads(chosen.read_text())['key']}-seed0" if chosen.is_file() else None


def blended(parts: list[Path], folder: Path) -> dict[str, Any]:
    """The report of a blend, made if it is not there."""
    names = [str(part) for part in parts]
    made_of = folder / "parts.json"
    if not made_of.is_file() or json.loads(made_of.read_text()) != names:
        logger.info("blending %s", ", ".join(names))
        gmmrec.blend(names, metric=BASE["monitor"], out=folder)
        made_of.write_text(json.dumps(names))
    report: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return report


def row(name: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    cells = {m: f"{accuracy.mean(reports, m):.4f} ± {accuracy.deviation(reports, m):.4f}" for m in METRICS}
    return {"what": name, "runs": len(reports), **cells}


if __name__ == "__main__":
    main()
