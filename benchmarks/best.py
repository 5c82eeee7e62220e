"""Best result on a data set: a search over GraphFusion, then a blend with closed forms; all choices made on validation.

    python benchmarks/best.py [--dataset tiktok] [--seeds 0 1 2] [--tables-only]

The points of every family (one with BPR, one with softmax) are tried with seed 0 and compared by the monitored validation
metric; the best of each is trained with all seeds. Both are then blended (``gmmrec blend``) with the runs that ``accuracy.py``
chose for BLENDED, weights chosen on validation too: for every seed alone, and once with all seeds together. Runs are kept beside
those of ``accuracy.py``, blends below runs/best, results in benchmarks/results/best.csv; the table goes to
benchmarks/tables/best-DATASET.md.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gmmrec
from gmmrec.runs.folder import report_of
from gmmrec.runs.status import state_of
from lab import command
from lab.cells import Cell, Lab, commit
from lab.chosen import chosen
from lab.grid import digest, merged
from lab.results import count_runs
from lab.tables import by, markdown, page, spreads, write

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
MODEL = "graph-fusion"
BLENDED = ("graph-filter", "cease")
OF_ONE_SEED, OF_ALL = "blend of one seed of both with the closed forms", "blend of all seeds of both with the closed forms"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
logger = logging.getLogger("best")


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--dataset", default="tiktok")
    flags = command.start(parser)
    lab = Lab("best", METRICS, data=flags.data)
    if not flags.tables_only:
        measure(lab, Lab("accuracy", METRICS, data=flags.data), flags.dataset, flags.seeds)
    write(tables(lab))


def measure(lab: Lab, single: Lab, dataset: str, seeds: Sequence[int]) -> None:
    """Search every family, train the best point of each, and blend."""
    ours = {family: of_family(lab, single, dataset, family, seeds) for family in FAMILIES}
    settings = chosen(dataset)
    closed = [recorded(lab, single, name, Cell(dataset, name, settings[name])) for name in BLENDED if name in settings]
    for seed, of_seed in zip(seeds, zip(*ours.values(), strict=True), strict=True):
        blended(lab, dataset, OF_ONE_SEED, [*of_seed, *closed], seed)
    blended(lab, dataset, OF_ALL, [folder for folders in ours.values() for folder in folders] + closed, seeds[0])


def of_family(lab: Lab, single: Lab, dataset: str, family: str, seeds: Sequence[int]) -> list[Path]:
    """Run folders of the best point of a family, one per seed."""
    label, found = f"{MODEL}, {family}", []
    for point in FAMILIES[family]:
        cell = Cell(dataset, MODEL, merged(BASE, point))
        found.append((single.report(cell)["valid"][BASE["monitor"]], cell, point))
    _, best, _ = max(found, key=lambda tried: tried[0])
    for value, cell, point in found:
        mark = "chosen" if cell is best else None
        row = {"point": json.dumps(point), BASE["monitor"]: value, "chosen": mark, "commit": commit()}
        lab.store.put(cell.key("valid") | {"model": label} | row)
    return [recorded(lab, single, label, Cell(dataset, MODEL, best.settings, seed)) for seed in seeds]


def recorded(lab: Lab, single: Lab, label: str, cell: Cell) -> Path:
    """Keep the results of a cell in a row of the table, and return its run folder."""
    report = single.report(cell)
    lab.record(Cell(cell.dataset, label, cell.settings, cell.seed), report)
    return single.folder(cell)


def blended(lab: Lab, dataset: str, label: str, parts: Sequence[Path], seed: int) -> None:
    """Blend runs unless the same blend exists, and keep its results."""
    names = [str(part) for part in parts]
    folder = lab.runs / dataset / f"blend-{digest({'parts': names})}"
    if state_of(folder) != "finished":
        logger.info("blending %s", ", ".join(names))
        gmmrec.blend(names, metric=BASE["monitor"], out=folder)
    report = report_of(folder)
    weights = " ".join(f"{weight:.3f}" for weight in report["blend"]["weights"])
    found = {metric: report["test"][metric] for metric in METRICS}
    where = {"dataset": dataset, "model": label, "seed": seed, "part": "test"}
    lab.store.put(where | found | {"weights": weights, "commit": commit()})


def tables(lab: Lab) -> dict[str, str]:
    """A page per data set."""
    return {f"best-{dataset}": table(lab, dataset) for (dataset,) in by(lab.store.rows, "dataset")}


def table(lab: Lab, dataset: str) -> str:
    """Page of test metrics, the weights of the largest blend, and the search."""
    rows = by(lab.store.select(dataset=dataset, part="test"), "model")
    lines = [[name, str(count_runs(found)), *spreads(found, METRICS)] for (name,), found in rows.items()]
    tried = lab.store.select(dataset=dataset, part="valid")
    points = [
        [row["model"].removeprefix(f"{MODEL}, "), row["point"], f"{float(row[BASE['monitor']]):.4f}", row.get("chosen", "")]
        for row in tried
    ]
    weights = rows[(OF_ALL,)][-1]["weights"].replace(" ", ", ") if (OF_ALL,) in rows else ""
    return page(
        f"Best results on {dataset}",
        f"All choices made on validation ({BASE['monitor']}); test metrics, training items masked, mean and standard deviation "
        f"over the seeds. Made by `python benchmarks/best.py --dataset {dataset}`.",
        markdown(["model", "runs", *METRICS], lines),
        f"Weights of the last row (all seeds of each family in order, then {' and '.join(BLENDED)}): {weights}." if weights else "",
        f"Search on validation, seed 0, starting from `{json.dumps(BASE)}`:",
        markdown(["family", "point", BASE["monitor"], ""], points),
    )


if __name__ == "__main__":
    main()
