"""Ablations: every model with its chosen settings, and without one part (or with an additional one).

    python benchmarks/ablations.py [--datasets tiktok movies-small] [--models mgat mario] [--seeds 0 1 2] [--tables-only]

The settings are those that ``accuracy.py`` chose on validation; an ablation changes the settings in ABLATIONS and nothing else.
Results are kept in benchmarks/results/ablations.csv, run folders below runs/ablations (those of full models below runs/accuracy);
existing ones are not run again. The papers claim a worse result without each part; the tables in
benchmarks/tables/ablations-DATASET.md have the differences found: of test metrics, paired by user, over all seeds, and significant
only if they also exceed the variation between seeds.
"""

import logging
from pathlib import Path
from typing import Any

import torch

import gmmrec
from gmmrec.data.load import load_dataset
from gmmrec.evaluation.kinds import load_results, task_of_metric
from gmmrec.evaluation.modality import average_difference
from gmmrec.evaluation.results import file_of
from gmmrec.runs.status import state_of
from lab import command
from lab.cells import Cell, Lab
from lab.chosen import chosen
from lab.grid import Settings, merged, path_of
from lab.results import Row, number, summarise
from lab.significance import verdict
from lab.tables import by, markdown, page, seeds_of, shown, spread, write

FULL = "full"
METRICS = ("recall@20", "ndcg@20", "rmse", "mae", "impressions/auc", "impressions/ndcg@10")
LIGHT = {"num_layers": 1, "unit_features": False, "item_graph": "none"}
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "mgat": {
        "without the gate": {"model.gate": "none"},
        "without {modality}": {"data.modalities": "others"},
        "with two layers": {"model.num_layers": 2},
        "light propagation instead": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "none", "content": "light"}},
        "with propagated ID embeddings, too": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "light", "content": "mgat"}},
        "propagated ID embeddings alone": {"model_name": "graph-fusion", "model": LIGHT | {"ids": "light"}},
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
        "towers without exchange": {"model.share": "none"},
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
        "the same attention for all users": {"model.personalised": "none"},
        "without biases": {"model.biases": False},
    },
    "mmt-net": {
        "a plain layer on the context": {"model.order": 1},
        "without shifts between groups": {"model.residual": False},
        "without the event's context": {"model.groups": ["historical", "attributional"]},
        "without the past": {"model.groups": ["interactional", "attributional"]},
        "without attributes": {"model.groups": ["interactional", "historical"]},
    },
    "lattice": {"frozen graph alone": {"model.lam": 1.0}, "learned graph alone": {"model.lam": 0.0}},
}
logger = logging.getLogger("ablations")


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--datasets", nargs="+", default=["tiktok", "movies-small"])
    parser.add_argument("--models", nargs="+", default=list(ABLATIONS))
    parser.add_argument("--variants", nargs="+", default=[""], help="words; run only variants whose names contain one of them")
    flags = command.start(parser)
    lab, full = (Lab(name, METRICS, data=flags.data) for name in ("ablations", "accuracy"))
    for dataset in () if flags.tables_only else flags.datasets:
        settings = chosen(dataset)
        for model in flags.models:
            if model in settings:
                ablate(lab, full, Cell(dataset, model, settings[model], variant=FULL), flags.seeds, flags.variants)
            else:
                logger.info("%s %s: no settings are chosen; run accuracy.py first", dataset, model)
    write(tables(lab))


def ablate(lab: Lab, full: Lab, cell: Cell, seeds: list[int], words: list[str]) -> None:
    """Run the variants of one model whose names contain one of the words, and compare all existing ones with the full model."""
    path = path_of(cell.dataset, lab.data)
    modalities = list(load_dataset(path, modalities=cell.settings.get("data", {}).get("modalities")).features)
    folders: dict[str, list[Path]] = {}
    for made in [cell, *variants(cell, modalities, path)]:
        own = full if made.variant == FULL else lab
        cells = [Cell(made.dataset, made.model, made.settings, seed, made.variant) for seed in seeds]
        is_selected = made.variant == FULL or any(word in made.variant for word in words)
        if not is_selected and not all(state_of(own.folder(one)) == "finished" for one in cells):
            continue
        for one in cells:
            lab.record(one, own.report(one))
        folders[made.variant] = [own.folder(one) for one in cells]
        apart = {f"avg.diff {modality}": difference(folders[made.variant][0], modality) for modality in modalities}
        lab.record(cells[0], own.report(cells[0]), apart)
    compare_all(lab, cell, folders)


def variants(cell: Cell, modalities: list[str], path: str) -> list[Cell]:
    """Declared variants of a model that differ from its full form, one per modality where the title has a placeholder."""
    found = []
    for title, changes in ABLATIONS[cell.model].items():
        for modality in modalities if "{modality}" in title else [""]:
            others = [other for other in modalities if other != modality]
            if changes.get("data.modalities") == "others" and not others:
                continue
            point: dict[str, Any] = {key: others if value == "others" else value for key, value in changes.items()}
            settings: Settings = merged(cell.settings, {key: value for key, value in point.items() if "." in key})
            settings |= {key: value for key, value in point.items() if "." not in key}
            if "model" in point:  # another model, of the same width
                settings["model"] = {**point["model"], "dim": cell.settings.get("model", {}).get("dim", 64)}
            made = Cell(cell.dataset, cell.model, settings, variant=title.format(modality=modality))
            if made.config(path) != cell.config(path):
                found.append(made)
    return found


def compare_all(lab: Lab, cell: Cell, folders: dict[str, list[Path]]) -> None:
    """Test every variant against the full model, and keep a verdict in words by the first metric."""
    if len(folders) < 2:
        return
    for position, metric in enumerate(metrics_of(folders[FULL][0])):
        results = {title: [load_results(folder, task_of_metric(metric)) for folder in runs] for title, runs in folders.items()}
        name = metric.rpartition("/")[2]
        by_seed = {title: [found.mean()[name] for found in of_seeds] for title, of_seeds in results.items()}
        found = lab.significance.test(results, dataset=cell.dataset, study=cell.model, metric=metric, reference=FULL)
        if position == 0:
            words = {row.run: verdict(metric, row, by_seed[FULL], by_seed[row.run]) for row in found.rows if row.run != FULL}
            lab.significance.keep(found, dataset=cell.dataset, study=cell.model, verdicts=words)


def metrics_of(folder: Path) -> tuple[str, str]:
    """Compared metrics: rating errors if ratings are predicted, impression metrics if the data have them, else ranking metrics."""
    if (folder / file_of("rating")).is_file():
        return "rmse", "mae"
    is_shown = (folder / file_of("impressions")).is_file()
    return ("impressions/auc", "impressions/ndcg@10") if is_shown else ("recall@20", "ndcg@20")


def tables(lab: Lab) -> dict[str, str]:
    """A page per data set, with a section per model."""
    head = "Test metrics, paired by user; seeds and command are given per model."
    return {
        f"ablations-{dataset}": page(
            f"Ablations on {dataset}",
            head,
            *(section(lab, dataset, model, of_model) for (model,), of_model in by(rows, "model").items()),
        )
        for (dataset,), rows in by(lab.store.rows, "dataset").items()
    }


def section(lab: Lab, dataset: str, model: str, rows: list[Row]) -> str:
    """Section of means and deviations over the seeds, p-values against the full model, and distances from raw similarities."""
    tests = lab.significance.rows(dataset=dataset, study=model)
    metrics = list(dict.fromkeys(row["metric"] for row in tests))
    p_values = {(row["metric"], row["run"]): number(row, "p") for row in tests}
    verdicts = {row["run"]: row["verdict"] for row in tests if "verdict" in row}
    differences = sorted({name for row in rows for name in row if name.startswith("avg.diff ")})
    lines = []
    for (variant,), found in by(rows, "variant").items():
        cells = [variant]
        for metric in metrics:
            p = p_values.get((metric, variant))
            cells += [spread(summarise(found, metric), alone=False), shown(None if variant == FULL else p)]
        lines.append([*cells, verdicts.get(variant, ""), *(shown(mean_of(found, name), ".3f") for name in differences)])
    header = ["variant", *(name for metric in metrics for name in (metric, f"p ({metric})")), "vs. the full model", *differences]
    seeds = " ".join(map(str, seeds_of(rows)))
    made = f"python benchmarks/ablations.py --datasets {dataset} --models {model} --seeds {seeds}"
    return f"## {model}\n\nSeeds {seeds.replace(' ', ', ')}. Made by `{made}`.\n\n{markdown(header, lines)}"


def mean_of(rows: list[Row], column: str) -> float | None:
    """Value of a column that only one of the rows has."""
    return next((value for row in rows if (value := number(row, column)) is not None), None)


def difference(folder: Path, modality: str) -> float:
    """Average difference between the similarities of the item vectors and those of the raw features."""
    run = gmmrec.load(folder)
    dataset = load_dataset(run.config.data, modalities=None)
    with torch.no_grad():
        vectors = run.model.encode(run.graph)["item"]
    return average_difference(vectors, dataset.features[modality], num_pairs=1_000_000, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
