"""The best we can do on a data set: a search over GraphFusion, then a blend with closed forms; everything chosen on validation.

    python benchmarks/best.py [--dataset tiktok] [--threads 2]

The points of every family (one learns by BPR, one by softmax) are tried with seed 0 and judged by the monitored validation metric;
the best of each is trained with all seeds. Both are then blended (``gmmrec blend``) with the runs that ``accuracy.py`` chose for
BLENDED, weights chosen on validation too: for every seed alone, and once with all seeds together. Runs are kept beside those of
``accuracy.py``, blends below runs/best, and skipped when they are there; the table goes to benchmarks/tables/best-DATASET.md.
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
    "model": {"dim": 128, "num_layers": 3, "knn_degrees": "both_ends"},
}
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "bpr": [
        {"model.edge_dropout": 0.1, "model.item_layers": 1},
        {"model.edge_dropout": 0.1, "model.item_layers": 2},
        {"model.edge_dropout": 0.3, "model.item_layers": 1},
        {"model.edge_dropout": 0.3, "model.item_layers": 2},
    ],
    "softmax": [
        {"model.ranking": "softmax", "train.lr": 2e-3, "train.patience": 8, "model.edge_dropout": 0.3},
        {"model.ranking": "softmax", "train.lr": 2e-3, "train.patience": 8, "model.edge_dropout": 0.5},
        {"model.ranking": "softmax", "train.lr": 2e-3, "train.patience": 8, "model.edge_dropout": 0.3, "model.l2": 1e-3},
        {"model.ranking": "softmax", "train.lr": 2e-3, "train.patience": 8, "model.edge_dropout": 0.3, "model.item_layers": 2},
    ],
}
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
    tried, ours = [], {}
    for family, points in FAMILIES.items():
        found = []
        for point in points:
            settings = accuracy.merged(BASE, point) | {"data": {"path": path}}
            report = accuracy.trained(dataset, "graph-fusion", settings, 0)
            found.append((report["valid"][BASE["monitor"]], settings, point))
        _, chosen, best = max(found, key=lambda entry: entry[0])
        tried += [(family, value, point, "chosen" if point is best else "") for value, _, point in found]
        for seed in seeds:
            accuracy.trained(dataset, "graph-fusion", chosen, seed)
        ours[family] = [accuracy.folder_of(accuracy.RUNS, dataset, "graph-fusion", chosen, seed) for seed in seeds]
    closed = [folder for name in BLENDED if (folder := chosen_run(dataset, name)) is not None]
    rows = [row(f"graph-fusion, {family}", [read(folder) for folder in folders]) for family, folders in ours.items()]
    rows += [row(folder.parent.name, [read(folder)]) for folder in closed]
    apart = [[*of_seed, *closed] for of_seed in zip(*ours.values(), strict=True)]
    alone = [blended(parts, RUNS / dataset / f"blend-seed{seed}") for seed, parts in zip(seeds, apart, strict=True)]
    rows.append(row("blend of one seed of both with the closed forms", alone))
    everything = [folder for folders in ours.values() for folder in folders] + closed
    blend_of_all = blended(everything, RUNS / dataset / "blend-all")
    rows.append(row("blend of all seeds of both with the closed forms", [blend_of_all]))
    shares = ", ".join(f"{weight:.3f}" for weight in blend_of_all["blend"]["weights"])
    table = pd.DataFrame(rows).to_markdown(index=False)
    points = pd.DataFrame(
        [
            {"family": f, "point": json.dumps(p) if p else "base", BASE["monitor"]: f"{value:.4f}", "": mark}
            for f, value, p, mark in tried
        ]
    )
    text = f"""# The best on {dataset}

Everything chosen on validation ({BASE["monitor"]}); test figures, training items left out, mean and deviation over the seeds.
Made by `python benchmarks/best.py --dataset {dataset}`.

{table}

Weights of the last row (every family's seeds in order, then {" and ".join(BLENDED)}): {shares}.

The search: validation, seed 0, from `{json.dumps(BASE)}`.

{points.to_markdown(index=False)}
"""
    (HERE / "tables" / f"best-{dataset}.md").write_text(text)
    print(text)


def read(folder: Path) -> dict[str, Any]:
    """The report of a run that is there."""
    report: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return report


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
    return read(folder)


def row(name: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    cells = {m: f"{accuracy.mean(reports, m):.4f} ± {accuracy.deviation(reports, m):.4f}" for m in METRICS}
    return {"what": name, "runs": len(reports), **cells}


if __name__ == "__main__":
    main()
