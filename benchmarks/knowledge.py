"""What a knowledge graph adds to recommendation: GraphFusion with and without it, on MovieLens-100K with its facts.

    python benchmarks/knowledge.py -d ml-100k [--seeds 0 1 2]
    python benchmarks/knowledge.py -d films --out benchmarks/tables/knowledge-features.md

All take the same split, the same settings and early stopping; all facts are in the graph (``split.facts: 0``), which is fair, for
they are about movies, not about who watched them. Items are linked to entities; no features of items are used. Where entities have
features, one row more says what these add. The table goes to benchmarks/tables/knowledge.md. A data set with features is made by

    gmmrec data convert -d ml-100k --to folder --out films
    for name in image text; do cp runs/content/movie-knowledge/${name}_feat.npz films/entity_${name}_feat.npz; done

(the features are those of data_scripts/movie_knowledge.py).
"""

import argparse
import statistics
import time
from pathlib import Path

import gmmrec
from gmmrec.data.filter import select_modalities
from gmmrec.evaluation.report import aligned

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
VARIANTS = {
    "without knowledge": {"knowledge": "none"},
    "one step (item, entity, item's entity)": {"knowledge": "entity", "knowledge_layers": 1},
    "two steps": {"knowledge": "entity", "knowledge_layers": 2},
}
WITH_FEATURES = "two steps, entities with features"


def main() -> None:
    """Trains, and writes mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--data", required=True, help="a data set with items that are linked to the entities of facts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tables" / "knowledge.md")
    args = parser.parse_args()
    dataset = gmmrec.load_dataset(args.data)
    known = [name for name, table in dataset.features.items() if table.node_type == "entity"]
    variants = VARIANTS | ({WITH_FEATURES: VARIANTS["two steps"]} if known else {})
    rows = [["GraphFusion", *METRICS, "CPU s a seed"]]
    for name, settings in variants.items():
        data = select_modalities(dataset, known if name == WITH_FEATURES else [])
        found, started = [], time.process_time()
        for seed in args.seeds:
            run = gmmrec.fit(
                data,
                "graph-fusion",
                **settings,
                item_graph="none",
                seed=seed,
                lr=5e-3,
                epochs=args.epochs,
                patience=8,
                bootstrap=0,
                progress=False,
                split={"facts": 0.0},
            )
            found.append(run.report["test"])
        spent = (time.process_time() - started) / len(args.seeds)
        cells = [(statistics.mean(values), statistics.pstdev(values)) for m in METRICS for values in [[one[m] for one in found]]]
        rows.append([name, *(f"{mean:.4f} ± {spread:.4f}" for mean, spread in cells), f"{spent:.0f}"])
        title = f"# Knowledge in recommendation: {dataset.name}\n\n"
        about = (
            f"{len(args.seeds)} seeds, mean and standard deviation on the test part; ID embeddings with light propagation, no "
            f"features of items; {len(dataset.triples):,} facts. Made by `benchmarks/knowledge.py`.\n\n"
        )
        args.out.write_text(title + about + aligned(rows), encoding="utf-8")
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
