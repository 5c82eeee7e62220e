"""A graph gives a sequence model its vectors: the sequence model alone, and started from a graph model's users and items.

    python benchmarks/graph_meets_sequence.py [--dataset movies-small-next] [--graph lightgcn] [--sequence marank] [--seeds 0 1 2]
        [--epochs 60]

Settings are those of benchmarks/configs/DATASET (see benchmarks/accuracy.py), the first value of every grid; both ways to start the
sequence model have the same ones. The graph sees the training part alone, and the run of every seed starts from the graph of its
seed. Runs are kept below runs/graph-meets-sequence and skipped when they are there. The table goes to
benchmarks/tables/graph-meets-sequence-DATASET.md: what every model finds, what it took, and differences paired by user.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import accuracy
import torch
import yaml

from gmmrec.evaluation.compare import compare
from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.results import Results

HERE = Path(__file__).parent
RUNS = Path("runs/graph-meets-sequence")
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="movies-small-next")
    parser.add_argument("--graph", default="lightgcn")
    parser.add_argument("--sequence", default="marank")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="most epochs of the sequence model, however it starts")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets that are not bundled")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    names = {way: way_name(arguments.graph, arguments.sequence, way) for way in ("graph", "alone", "started")}
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    results: dict[str, list[Results]] = {name: [] for name in names.values()}

    def made(way: str, model: str, seed: int, start: Path | None = None) -> Path:
        settings = settings_of(arguments.dataset, model, arguments.data) | {"model_name": model}
        if way != "graph" and arguments.epochs:
            settings["train"] = {**settings["train"], "epochs": arguments.epochs}
        if start is not None:
            settings["init_from"] = str(start)
        reports[names[way]].append(accuracy.trained(arguments.dataset, way, settings, seed, runs=RUNS / arguments.graph))
        folder = accuracy.folder_of(RUNS / arguments.graph, arguments.dataset, way, settings, seed)
        results[names[way]].append(load_results(folder))
        return folder

    for seed in arguments.seeds:
        graph = made("graph", arguments.graph, seed)
        made("alone", arguments.sequence, seed)
        made("started", arguments.sequence, seed, graph)

    command = " ".join(["python benchmarks/graph_meets_sequence.py", *sys.argv[1:]])
    shared = ", ".join(f"{name} `{settings_of(arguments.dataset, name, Path())}`" for name in (arguments.graph, arguments.sequence))
    lines = [
        f"# Graph meets sequence: {arguments.dataset}",
        "",
        f"Means over seeds {', '.join(map(str, arguments.seeds))}; one question a user, the whole catalogue ranked, items known "
        f"from {reports[names['graph']][0]['masked']} left out; seconds of training, on a machine that did other work as well. "
        f"Made by `{command}`. Settings: {shared}.",
        "",
        "| model | " + " | ".join(METRICS) + " | epochs | best epoch | seconds |",
        "|---|" + "---:|" * (len(METRICS) + 3),
    ]
    for name, found in reports.items():
        timing = [report["timing"] for report in found]
        epochs, best = (sum(t[what] for t in timing) / len(timing) for what in ("epochs", "best_epoch"))
        seconds = sum(t["epochs"] * t["seconds_per_epoch"] for t in timing) / len(timing)
        values = [f"{accuracy.mean(found, m):.4f} ± {accuracy.deviation(found, m):.4f}" for m in METRICS]
        lines.append(f"| {' | '.join([name, *values])} | {epochs:.0f} | {best:.0f} | {seconds:.0f} |")
    for metric in ("recall@20", "ndcg@20"):
        lines += ["", compare(results, metric=metric, reference=names["alone"]).to_markdown()]
    text = "\n".join(lines)
    (HERE / "tables" / f"graph-meets-sequence-{arguments.dataset}.md").write_text(text + "\n")
    print(text)


def way_name(graph: str, sequence: str, way: str) -> str:
    """What a row is called.

    >>> way_name("lightgcn", "marank", "started")
    'marank from lightgcn'
    """
    return {"graph": graph, "alone": sequence, "started": f"{sequence} from {graph}"}[way]


def settings_of(dataset: str, name: str, data: Path) -> dict[str, Any]:
    """The settings of a model on a data set, the first of its grid."""
    values = yaml.safe_load((HERE / "configs" / dataset / f"{name}.yaml").read_text())
    first = {field: choices[0] for field, choices in values.pop("grid", {}).items()}
    return accuracy.settings_of(dataset, values, first, data)


if __name__ == "__main__":
    main()
