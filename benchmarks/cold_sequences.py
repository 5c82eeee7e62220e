"""Meta-learning for cold users and items: MML and its ablations.

    python benchmarks/cold_sequences.py [--datasets hm-fashion-next] [--split cold_users] [--seeds 0 1 2] [--epochs 100] [--small]

The newest users, three of ten, are not trained on (``cold_users``): the model gets their history, adapts to it, and is evaluated on
their last event; the one before it validates. All other users train. With ``--split cold_items`` two items of ten are held out
instead, and every event with one of them is a query; one of ten validates. Settings are the first point of the grid in
``configs/DATASET/mml.yaml``; a variant changes the settings in VARIANTS and nothing else. ``adapt_steps: 0`` uses the same trained
weights. Early stopping monitors the validation part; stage by stage, each of the three stops by itself. Values per query are kept
below runs/cold_sequences, results in benchmarks/results/cold_sequences.csv; existing ones are not computed again. Tables in
benchmarks/tables/cold-sequences-DATASET.md (cold-items-DATASET.md) have means over the seeds by group, and mark the significant
differences to the full model, paired by query. A cold user has one query.
"""

import argparse
import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.kinds import load_results, monitored_value
from gmmrec.evaluation.results import EVERYTHING, Results, file_of
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mml import MML
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.query import HistoryQuery
from gmmrec.training.trainer import Trainer
from lab import command
from lab.cells import Cell, Lab, as_json, commit
from lab.grid import first_point, merged, path_of
from lab.recipe import RunConfig
from lab.results import Row, Store, summarise
from lab.tables import by, markdown, page, seeds_of, shown, write

KEYS = ("dataset", "split", "variant", "group", "digest", "seed")
SPLITS: dict[str, dict[str, Any]] = {
    "cold_users": {"split.strategy": "cold_users", "split.test": 0.3},
    "cold_items": {"split.strategy": "cold_items", "split.valid": 0.1, "split.test": 0.2},
}
FILES = {"cold_users": "cold-sequences", "cold_items": "cold-items"}
ASKED = {
    "cold_users": "The queries are the last events of the newest users, who are not in the training data",
    "cold_items": "The queries are all events with items without training interactions, ranked among all items",
}
FULL, UNADAPTED = "MML", "MML without adaptation at test time"
VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "stage by stage": {"model.stage": "learners"},
    "without meta-learning": {"model.meta": False},
    "second order": {"model.first_order": False},
    "uniform weights of the learners": {"model.fusion": "mean"},
    "without the generator": {"model.generator": False},
}
SMALL = {"model.dim": 32, "model.num_layers": 1, "model.inner_steps": 2, "model.adapt_steps": 2}
METRICS = ("recall@10", "recall@20", "ndcg@20")
STAR = "p < 0.05"
logger = logging.getLogger("cold_sequences")


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--datasets", nargs="+", default=["hm-fashion-next"])
    parser.add_argument("--split", choices=SPLITS, default="cold_users", help="cold users or items")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants besides the full model")
    parser.add_argument("--epochs", type=int, help="maximum, instead of that of the settings")
    parser.add_argument("--small", action="store_true", help="half as wide, one layer, two steps: for a first look")
    flags = command.start(parser)
    lab = opened(Lab("cold_sequences", METRICS, data=flags.data))
    for dataset in () if flags.tables_only else flags.datasets:
        made = command.given(parser, flags, leave_out=("threads", "tables_only", "data", "datasets", "variants", "seeds"))
        seeds = " ".join(map(str, flags.seeds))
        measure(lab, dataset, flags, f"python benchmarks/cold_sequences.py --datasets {dataset} --seeds {seeds} {made}".strip())
    write(tables(lab))


def opened(lab: Lab) -> Lab:
    """Return the lab with the split among the keys of its rows."""
    lab.store = Store(lab.name, lab.store.path.parent, KEYS)
    return lab


def measure(lab: Lab, dataset: str, flags: argparse.Namespace, made_by: str) -> None:
    """Run all variants and seeds, and keep means by group instead of those of other settings."""
    changes = (
        SPLITS[flags.split] | ({} if flags.epochs is None else {"train.epochs": flags.epochs}) | (SMALL if flags.small else {})
    )
    found: dict[str, list[Results]] = {}
    rows = []
    for title in dict.fromkeys((FULL, *flags.variants)):
        settings = merged(first_point(dataset, "mml"), changes | VARIANTS[title])
        for seed in flags.seeds:
            cell = Cell(dataset, "mml", settings, seed, title)
            for name, results in answers(lab, cell).items():
                found.setdefault(name, []).append(results)
                where = {"dataset": dataset, "split": flags.split, "variant": name, "digest": cell.digest, "seed": seed}
                about = {"settings": as_json(settings), "command": made_by, "commit": commit()}
                for group in (EVERYTHING, *results.groups):
                    asked = {"group": group, "queries": len(results.group(group).position)}
                    rows.append(where | asked | {metric: results.mean(group)[metric] for metric in METRICS} | about)
    lab.store.replace(rows, dataset=dataset, split=flags.split)
    for metric in METRICS if len(found) > 1 else ():
        for group in (EVERYTHING, *found[FULL][0].groups):
            test = lab.significance.test(found, dataset=dataset, study=flags.split, metric=metric, group=group, reference=FULL)
            stars = {line.run: STAR for line in test.rows if line.p is not None and line.p < 0.05}
            lab.significance.keep(test, dataset=dataset, study=flags.split, verdicts=stars)


def answers(lab: Lab, cell: Cell) -> dict[str, Results]:
    """Test results of one variant, and of the full model also without adaptation; computed if they do not exist."""
    folder = lab.folder(cell)
    names = (FULL, UNADAPTED) if cell.variant == FULL else (cell.variant,)
    if not all((folder / file_of(str(number))).is_file() for number in range(len(names))):
        started = time.perf_counter()
        model, graph, ranking = trained(cell.config(path_of(cell.dataset, lab.data)))
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            if name == UNADAPTED:
                model.config = replace(model.config, adapt_steps=0)
            results = evaluate(
                model, graph, ranking, metrics=("recall", "ndcg"), ks=(10, 20), groups=groups_of(graph, ranking), bootstrap=0
            )
            results.save(folder, str(number))
            logger.info("%s %s seed %d: %.0f s, %s", cell.dataset, name, cell.seed, time.perf_counter() - started, results.mean())
    return {name: load_results(folder, str(number)) for number, name in enumerate(names)}


def trained(config: RunConfig) -> tuple[MML, MultimodalGraph, RankingEvaluation[HistoryQuery]]:
    """Trained model (in three stages if the settings name the first), its graph, and the test task."""
    dataset = load_dataset(config.data)
    split = split_dataset(dataset, config.split, torch.Generator().manual_seed(config.split.seed))
    task = NextItemTask(TaskInputs(split, dataset.num_users, dataset.num_items, config.train, settings=config.model))
    graph = build_graph(dataset, split, config.graph)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = MML(graph.schema, config.model)
        with torch.no_grad():
            graph = model.prepare(graph)
        monitor = config.monitor or task.monitor
        validate = partial(monitored_value, graph=graph, task=task.ranking("valid", "train"), monitor=monitor, config=config.eval)
        for stage in ("learners", "generator", "fusion") if config.model.stage == "learners" else ("all",):
            earlier, model = model, MML(graph.schema, replace(config.model, stage=stage))
            model.start_from(earlier)
            generator = torch.Generator().manual_seed(config.seed)
            Trainer(config.train).fit(model, graph, task.batches, validate, generator=generator, monitor=monitor)
    return model, graph, task.ranking("test", config.eval.mask)


def groups_of(graph: MultimodalGraph, ranking: RankingEvaluation[HistoryQuery]) -> dict[str, Group]:
    """Users by the number of known events; items by whether they have training interactions."""
    length, cold = ranking.query.mask.sum(1), graph.degree("item") == 0
    groups = {}
    for low, high in ((2, 4), (5, 14), (15, 10**9)):
        name = f"{low} to {high} known events" if high < 10**9 else f"{low} or more known events"
        group = (length >= low) & (length <= high)
        if bool(group.any()):
            groups[name] = Group(group, "queries")
    return groups | {"known items": Group(~cold, "items"), "new items": Group(cold, "items")}


def tables(lab: Lab) -> dict[str, str]:
    """A page per data set and split."""
    pages = by(lab.store.rows, "dataset", "split")
    return {f"{FILES[split]}-{dataset}": table(lab, dataset, split, rows) for (dataset, split), rows in pages.items()}


def table(lab: Lab, dataset: str, split: str, rows: list[Row]) -> str:
    """Page of means by group, with a star where the paired difference to the full model is significant."""
    stars = {
        (row["metric"], row["group"], row["run"]) for row in lab.significance.rows(dataset=dataset, study=split) if "verdict" in row
    }
    names = list(dict.fromkeys(row["variant"] for row in rows))
    sections = []
    for metric in METRICS:
        lines = []
        for (group,), found in by(rows, "group").items():
            cells = [group, found[0]["queries"]]
            for (name,), of_variant in by(found, "variant").items():
                mean = summarise(of_variant, metric)
                cells.append(shown(None if mean is None else mean.mean) + ("*" if (metric, group, name) in stars else ""))
            lines.append(cells)
        sections.append(f"## {metric}\n\n{markdown(['group', 'queries', *names], lines)}")
    who = "users" if split == "cold_users" else "items"
    about = (
        f"{ASKED[split]}; means of seeds {', '.join(map(str, seeds_of(rows)))}. *: the difference to the "
        "full model, paired by "
        f"query, has p below 0.05, not corrected for the number of comparisons. Made by `{rows[0]['command']}`."
    )
    return page(f"Cold {who} on {dataset}", about, *sections)


if __name__ == "__main__":
    main()
