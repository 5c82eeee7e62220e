"""What every part of a model is worth: the model with its chosen settings, and without one part (or with one that it lacks).

    python benchmarks/ablations.py [--datasets tiktok movies-small] [--models mgat mario] [--seeds 0 1 2]

The settings are those that ``accuracy.py`` chose on validation; an ablation changes what ABLATIONS says and nothing else. Runs are
kept below runs/ablations and skipped when they are there. The tables in benchmarks/tables/ablations-DATASET.md say which sign the
papers claim (worse without the part, every time), and which was found: differences of test metrics, paired by user, over all seeds,
where they are also larger than seeds alone would make them.
"""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import stdev, variance
from typing import Any

import accuracy
import pandas as pd
import torch

import gmmrec
from gmmrec.data.load import DataConfig, load_dataset
from gmmrec.evaluation.compare import Row, compare
from gmmrec.evaluation.kinds import load_results, task_of_metric
from gmmrec.evaluation.metrics import ERRORS
from gmmrec.evaluation.modality import average_difference
from gmmrec.evaluation.results import file_of
from gmmrec.runs.recipe import RunConfig, read_config

HERE = Path(__file__).parent
RUNS = Path("runs/ablations")
LIGHT = {"num_layers": 1, "unit_features": False, "item_graph": "none"}
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "mgat": {
        "without the gate": {"model.gate": "none"},
        "without {modality}": {"data.modalities": "others"},
        "with two layers": {"model.num_layers": 2},
        "light flow in its place": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "none", "content": "light"}},
        "with ID embeddings that flow, too": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "light", "content": "mgat"}},
        "ID embeddings that flow, alone": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "light"}},
        "the same with three layers": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "light", "num_layers": 3}},
    },
    "hcgcn": {
        "without clusters of users and items": {"model.num_clusters": 1, "model.cluster_weight": 0.0},
        "without clusters of items": {"model.item_clusters": 1, "model.item_cluster_weight": 0.0},
        "without clustering losses": {"model.cluster_weight": 0.0, "model.item_cluster_weight": 0.0},
        "without the constraint on modalities": {"model.modal_weight": 0.0},
    },
    "mario": {
        "without decoders": {"model.mp_weight": 0.0},
        "without {modality}": {"data.modalities": "others"},
    },
    "mcptr": {
        "without the contrast": {"model.contrast_weight": 0.0},
        "without graphs": {"model.num_layers": 0},
        "mean instead of attention": {"model.fusion": "mean"},
    },
    "mgcn": {"without the contrast": {"model.contrast_weight": 0.0}, "without {modality}": {"data.modalities": "others"}},
    "freedom": {"without the item graph": {"model.item_layers": 0}, "without {modality}": {"data.modalities": "others"}},
    "mmgcn": {"concatenation": {"model.combine": "concat"}, "without {modality}": {"data.modalities": "others"}},
    "uvcan": {
        "mean instead of attention": {"model.attention": "mean"},
        "one step": {"model.steps": 1},
        "two steps": {"model.steps": 2},
        "three steps": {"model.steps": 3},
        "without {modality}": {"data.modalities": "others"},
    },
    "cmbf": {"concatenation": {"model.fusion": "concat"}},
    "vecf": {"mean instead of attention": {"model.attention": "mean"}, "without pictures": {"model.image": False}},
    "saers": {
        "mean instead of attention": {"model.attention": "mean"},
        "without the semantic space": {"model.semantic_space": False},
        "without the global space": {"model.global_space": False},
    },
    "irn": {
        "mean instead of attention": {"model.attention": "mean"},
        "towers that do not share": {"model.share": "none"},
        "without {modality}": {"data.modalities": "others"},
    },
    "nova-bert": {
        "fused at the input": {"model.invasive": True},
        "without {modality}": {"data.modalities": "others"},
    },
    "marank": {
        "mean instead of attention": {"model.attention": "mean"},
        "without the newest item's shortcut": {"model.shortcut": False},
        "without the long-term part": {"model.long_term": False},
    },
    "mml": {
        "without meta-learning": {"model.meta": False},
        "without the generator": {"model.generator": False},
        "mean instead of attention to learners": {"model.fusion": "mean"},
    },
    "vlsnr": {
        "means instead of attention": {"model.attention": "mean"},
        "an ordinary GRU": {"model.recurrence": "plain"},
        "without the long-term interest": {"model.long_term": False},
        "without {modality}": {"data.modalities": "others"},
    },
    "mm-rec": {
        "mean instead of attention": {"model.attention": "mean"},
        "without co-attention": {"model.co_attention": False},
        "without {modality}": {"data.modalities": "others"},
    },
    "nrpa": {
        "mean instead of attention": {"model.attention": "mean"},
        "attention alike for everybody": {"model.personalised": "none"},
        "without biases": {"model.biases": False},
    },
    "mmt-net": {
        "a plain layer on the context": {"model.order": 1},
        "groups that do not shift each other": {"model.residual": False},
        "without the event's context": {"model.groups": ["historical", "attributional"]},
        "without the past": {"model.groups": ["interactional", "attributional"]},
        "without attributes": {"model.groups": ["interactional", "historical"]},
    },
    "lattice": {"frozen graph alone": {"model.lam": 1.0}, "learned graph alone": {"model.lam": 0.0}},
}
logger = logging.getLogger("ablations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["tiktok", "movies-small"])
    parser.add_argument("--models", nargs="+", default=list(ABLATIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=[""], help="words; only variants that hold one of them are run")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    for dataset in arguments.datasets:
        for name in arguments.models:
            table = ablate(dataset, name, arguments.seeds, arguments.variants)
            if table is not None:
                write_section(dataset, name, table, arguments.seeds, arguments.variants)


def write_section(dataset: str, name: str, table: str, seeds: list[int], words: list[str]) -> None:
    """The part of one model in the file of a data set, anew or in place of an earlier one; what stands on others there stays."""
    path = HERE / "tables" / f"ablations-{dataset}.md"
    head = f"# What every part is worth on {dataset}\n\nTest figures, paired by user; each part says which seeds, and what made it."
    first, *parts = path.read_text().split("\n## ") if path.is_file() else [head]
    sections = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    command = f"python benchmarks/ablations.py --datasets {dataset} --models {name} --seeds {' '.join(map(str, seeds))}"
    command += f" --variants {shlex.join(words)}" if all(words) else ""
    sections[name] = f"Seeds {', '.join(map(str, seeds))}. Made by `{command}`.\n\n{table}"
    path.write_text("\n\n".join([first.strip(), *(f"## {title}\n\n{text}" for title, text in sections.items())]) + "\n")


def ablate(dataset: str, name: str, seeds: list[int], words: list[str]) -> str | None:
    """The table of one model, of the variants there are; None where accuracy.py has not chosen settings yet."""
    chosen = accuracy.RUNS / dataset / name / "chosen.json"
    if not chosen.is_file():
        logger.info("%s %s: no settings chosen yet; run accuracy.py first", dataset, name)
        return None
    settings = json.loads(chosen.read_text())["settings"]
    data = settings["data"]
    modalities = list(load_dataset(data["path"], modalities=data.get("modalities")).features)
    folders = {"full": [accuracy.folder_of(accuracy.RUNS, dataset, name, settings, seed) for seed in seeds]}
    for seed in seeds:
        accuracy.trained(dataset, name, settings, seed)
    for title, changes in ABLATIONS[name].items():
        for modality in modalities if "{modality}" in title else [""]:
            others = [other for other in modalities if other != modality]
            if changes.get("data.modalities") == "others" and not others:
                continue
            point = {key: others if value == "others" else value for key, value in changes.items()}
            variant = accuracy.merged(settings, {key: value for key, value in point.items() if "." in key})
            variant |= {key: value for key, value in point.items() if "." not in key}
            if "model" in point:  # another model, of the same width
                variant["model"] = point["model"] | {"dim": settings["model"].get("dim", 64)}
            if config_of(name, variant) == config_of(name, settings):
                continue
            runs = [accuracy.folder_of(RUNS, dataset, name, variant, seed) for seed in seeds]
            if any(word in title for word in words):
                for seed in seeds:
                    accuracy.trained(dataset, name, variant, seed, runs=RUNS)
            if all((folder / "metrics.json").is_file() for folder in runs):
                folders[title.format(modality=modality)] = runs
    return to_markdown(folders, modalities)


def config_of(name: str, settings: dict[str, Any]) -> RunConfig:
    """The whole configuration of a run, with what its settings leave open."""
    return read_config(settings.get("model_name", name), {key: value for key, value in settings.items() if key != "model_name"})


def to_markdown(folders: dict[str, list[Path]], modalities: list[str]) -> str:
    """Means and deviations of the seeds, p-values of differences to the full model, and how far similarities are from raw ones."""
    compared, by_seed = {}, {}
    for metric in metrics_of(folders["full"][0]):
        results = {title: [load_results(folder, task_of_metric(metric)) for folder in runs] for title, runs in folders.items()}
        compared[metric] = {row.run: row for row in compare(results, metric=metric, reference="full").rows}
        name = metric.rpartition("/")[2]
        by_seed[metric] = {title: [found.mean()[name] for found in of_seeds] for title, of_seeds in results.items()}
    rows = []
    for title, runs in folders.items():
        row: dict[str, Any] = {"variant": title}
        for metric, lines in compared.items():
            values = by_seed[metric][title]
            row[metric] = f"{lines[title].mean:.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
            row[f"p ({metric})"] = "" if title == "full" else f"{lines[title].p:.4f}"
        judge = next(iter(compared))
        seeds = by_seed[judge]["full"], by_seed[judge][title]
        row["beside the full model"] = "" if title == "full" else verdict(judge, compared[judge][title], *seeds)
        for modality in modalities:
            row[f"avg.diff {modality}"] = f"{difference(runs[0], modality):.3f}"
        rows.append(row)
    return str(pd.DataFrame(rows).to_markdown(index=False))


def metrics_of(folder: Path) -> tuple[str, str]:
    """What is compared: ratings where they are predicted, the order of what was shown where the data tell, else the ranking."""
    if (folder / file_of("rating")).is_file():
        return "rmse", "mae"
    shown = (folder / file_of("impressions")).is_file()
    return ("impressions/auc", "impressions/ndcg@10") if shown else ("recall@20", "ndcg@20")


def verdict(metric: str, line: Row, full: Sequence[float], variant: Sequence[float]) -> str:
    """Judged by the first metric; of every part that is left out the papers say "worse".

    p tells what other users might have said of these models; what other seeds might have made of them, only the seeds tell. So a
    difference has to be twice its own error between the seeds as well. With one seed that cannot be known.

    >>> line = Row("without", 3, 0.08, -0.01, p=0.0001)
    >>> verdict("recall@20", line, [0.091, 0.089, 0.090], [0.080, 0.081, 0.079])
    'worse'
    >>> verdict("recall@20", line, [0.080, 0.100, 0.090], [0.081, 0.095, 0.064])
    'no more than seeds differ'
    """
    if line.p is None or line.difference is None or line.p >= 0.05:
        return "no difference shown"
    said = "worse" if (line.difference < 0) != (metric in ERRORS) else "better"
    if len(full) < 2:
        return f"{said} (one seed)"
    error = sqrt(variance(full) / len(full) + variance(variant) / len(variant))
    return said if abs(line.difference) > 2 * error else "no more than seeds differ"


def difference(folder: Path, modality: str) -> float:
    """How far the similarities of the items' vectors are from those of their raw features."""
    run = gmmrec.load(folder)
    dataset = load_dataset(DataConfig(**run.config["data"]), modalities=None)
    with torch.no_grad():
        vectors = run.model.encode(run.graph)["item"]
    return average_difference(vectors, dataset.features[modality], num_pairs=1_000_000, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
