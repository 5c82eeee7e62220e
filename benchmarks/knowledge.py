"""Knowledge in recommendation: GraphFusion with and without a knowledge graph, on MovieLens-100K with its triples.

    python benchmarks/knowledge.py -d ml-100k [--seeds 0 1 2] [--tables-only]

All variants have the same split, settings and early stopping; all triples are in the graph (``split.triples: 0``), which is fair,
since they are about movies, not about users. Items are aligned with entities; no item features are used. If entities have
features, one more row includes them. Results are kept in benchmarks/results/knowledge.csv, run folders below runs/knowledge;
the table goes to benchmarks/tables/knowledge.md. To make a data set with features:

    gmmrec data convert -d ml-100k --to folder --out films
    for name in image text; do cp runs/content/movie-knowledge/${name}_feat.npz films/entity_${name}_feat.npz; done

(the features are those of data_scripts/movie_knowledge.py).
"""

import time
from typing import Any

import gmmrec
from gmmrec.data.filter import select_modalities
from lab import command
from lab.cells import Cell, Lab
from lab.results import Row, average
from lab.tables import by, markdown, page, seeds_of, shown, spreads, write

MODEL = "graph-fusion"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
VARIANTS: dict[str, dict[str, Any]] = {
    "without knowledge": {"knowledge": "none"},
    "one step (item, entity, item's entity)": {"knowledge": "entity", "knowledge_layers": 1},
    "two steps": {"knowledge": "entity", "knowledge_layers": 2},
}
WITH_FEATURES = "two steps, entities with features"


def main() -> None:
    parser = command.parser(__doc__, threads=1, data=False)
    parser.add_argument("-d", "--data", help="data set with items that are aligned with entities of triples")
    parser.add_argument("--epochs", type=int, default=60)
    flags = command.start(parser)
    if flags.data is None and not flags.tables_only:
        parser.error("expected a data set with triples, but none is named; add -d ml-100k, or --tables-only")
    lab = Lab("knowledge", METRICS, by_variant=True)
    if not flags.tables_only:
        measure(lab, flags.data, flags.seeds, flags.epochs)
    write(tables(lab))


def measure(lab: Lab, data: str, seeds: list[int], epochs: int) -> None:
    """Run all variants and seeds."""
    dataset = gmmrec.load_dataset(data)
    if dataset.triples is None:
        raise SystemExit(f"expected triples in {data}, but it has none; name a data set with a knowledge graph")
    entity_features = [name for name, table in dataset.features.items() if table.node_type == "entity"]
    variants = VARIANTS | ({WITH_FEATURES: VARIANTS["two steps"]} if entity_features else {})
    for name, changes in variants.items():
        used = select_modalities(dataset, entity_features if name == WITH_FEATURES else [])
        for seed in seeds:
            cell = Cell(dataset.name, MODEL, settings_of(changes, epochs), seed, name)
            if lab.store.find(**cell.key()) is None:
                started = time.process_time()
                report = lab.report(cell, dataset=used)
                costs = {"cpu_seconds": time.process_time() - started, "triples": len(dataset.triples)}
                lab.record(cell, report, costs)


def settings_of(changes: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Settings of a variant."""
    return {
        "model": {"item_graph": "none", **changes},
        "train": {"lr": 5e-3, "epochs": epochs, "patience": 8, "progress": False},
        "eval": {"bootstrap": 0},
        "split": {"triples": 0.0},
    }


def tables(lab: Lab) -> dict[str, str]:
    """One page, with a section per data set."""
    sections = [section(dataset, rows) for (dataset,), rows in by(lab.store.rows, "dataset").items()]
    return {"knowledge": page("Knowledge in recommendation", *sections, name="knowledge")}


def section(dataset: str, rows: list[Row]) -> str:
    """Section with one row per variant."""
    lines = []
    for (variant,), found in by(rows, "variant").items():
        lines.append([variant, *spreads(found, METRICS), shown(average(found, "cpu_seconds"), ".0f")])
    about = (
        f"{len(seeds_of(rows))} seeds, mean and standard deviation on the test part; ID embeddings with light propagation, no "
        f"item features; {int(rows[0]['triples']):,} triples. Made by `python benchmarks/knowledge.py -d {dataset}`."
    )
    return f"## {dataset}\n\n{about}\n\n{markdown(['GraphFusion', *METRICS, 'CPU s per seed'], lines)}"


if __name__ == "__main__":
    main()
