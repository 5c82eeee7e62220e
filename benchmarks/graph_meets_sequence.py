"""A graph gives a sequence model its vectors: the sequence model alone, and started from a graph model's users and items.

    python benchmarks/graph_meets_sequence.py [--dataset movies-small-next] [--graph lightgcn] [--sequence marank] [--seeds 0 1 2]
        [--epochs 60] [--tables-only]

Settings are those of benchmarks/configs/DATASET (see benchmarks/accuracy.py), the first value of every grid; both ways to start
the sequence model have the same ones. The graph sees the training part alone, and the run of every seed starts from the graph of
its seed. Run folders are kept below runs/graph_meets_sequence, results in benchmarks/results/graph_meets_sequence.csv. The table
goes to benchmarks/tables/graph-meets-sequence-DATASET.md: what every model finds, what it took, and differences paired by user.
"""

import json
from dataclasses import replace

from gmmrec.evaluation.kinds import load_results
from gmmrec.evaluation.results import Results
from lab import command
from lab.cells import Cell, Lab
from lab.grid import first_point, merged
from lab.results import Row, average
from lab.tables import by, markdown, page, seeds_of, shown, spreads, write

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
TESTED = ("recall@20", "ndcg@20")


def main() -> None:
    parser = command.parser(__doc__, threads=1)
    parser.add_argument("--dataset", default="movies-small-next")
    parser.add_argument("--graph", default="lightgcn")
    parser.add_argument("--sequence", default="marank")
    parser.add_argument("--epochs", type=int, help="maximum epochs of the sequence model, with either initialisation")
    flags = command.start(parser)
    lab = Lab("graph_meets_sequence", METRICS, data=flags.data)
    if not flags.tables_only:
        made_by = f"python benchmarks/graph_meets_sequence.py {command.given(parser, flags)}".strip()
        measure(lab, cells_of(flags.dataset, flags.graph, flags.sequence, flags.epochs), flags.seeds, made_by)
    write(tables(lab))


def cells_of(dataset: str, graph: str, sequence: str, epochs: int | None) -> dict[str, Cell]:
    """Cells of the graph model, the sequence model alone, and the one initialised from the graph, by their names in the table."""
    limit = {"train.epochs": epochs} if epochs else {}
    settings = merged(first_point(dataset, sequence), limit) | {"model_name": sequence}
    started = f"{sequence} from {graph}"
    return {
        graph: Cell(dataset, graph, first_point(dataset, graph)),
        sequence: Cell(dataset, sequence, settings),
        started: Cell(dataset, started, settings),
    }


def measure(lab: Lab, cells: dict[str, Cell], seeds: list[int], made_by: str) -> None:
    """Run all seeds of each, and compare all with the sequence model alone."""
    names = graph, alone, started = tuple(cells)
    results: dict[str, list[Results]] = {name: [] for name in names}
    dataset = cells[graph].dataset
    for seed in seeds:
        first = replace(cells[graph], seed=seed)
        for name in names:
            cell = replace(cells[name], seed=seed, start=lab.folder(first) if name == started else None)
            report = lab.report(cell)
            training = report["timing"]["epochs"] * report["timing"]["seconds_per_epoch"]
            lab.record(cell, report, {"training_seconds": training, "command": made_by})
            results[name].append(load_results(lab.folder(cell)))
    for metric in TESTED:
        lab.significance.test(results, dataset=dataset, metric=metric, reference=alone)


def tables(lab: Lab) -> dict[str, str]:
    """A page per data set."""
    pages = by(lab.store.rows, "dataset")
    return {f"graph-meets-sequence-{dataset}": table(lab, dataset, rows) for (dataset,), rows in pages.items()}


def table(lab: Lab, dataset: str, rows: list[Row]) -> str:
    """Page with one row per model, and the differences to the sequence model alone."""
    lines = []
    for (model,), found in by(rows, "model").items():
        costs = [shown(average(found, column), ".0f") for column in ("epochs", "best_epoch", "training_seconds")]
        lines.append([model, *spreads(found, METRICS), *costs])
    settings = {row["model"]: json.loads(row["settings"]) for row in rows}
    named = ", ".join(f"{name} `{json.dumps(found)}`" for name, found in settings.items() if " from " not in name)
    about = (
        f"Means over seeds {', '.join(map(str, seeds_of(rows)))}; one query per user; the whole catalogue "
        "ranked, except items of "
        f"{rows[0]['masked']}; seconds of training, on a shared machine. Made by "
        f"`{rows[0]['command']}`. Settings: {named}."
    )
    header = ["model", *METRICS, "epochs", "best epoch", "seconds"]
    return page(f"Graph meets sequence: {dataset}", about, markdown(header, lines), *lab.significance.markdown(dataset))


if __name__ == "__main__":
    main()
