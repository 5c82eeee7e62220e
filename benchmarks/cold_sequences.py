"""What meta-learning is worth to people of whom little is known: MML, and MML with one part less.

    python benchmarks/cold_sequences.py [--datasets hm-fashion-next] [--split cold_users] [--seeds 0 1 2] [--epochs 100] [--small]

Of the people who came last, three of ten, nothing is trained on (``cold_users``): the model is told what they did so far, adapts to
it, and is asked for their last event; the one before it validates. Everybody else trains. With ``--split cold_items`` two items of
ten are held out instead, and every event with one of them is asked for; one of ten validates. Settings are those of
``configs/DATASET/mml.yaml``, the first point of its grid; a variant changes what VARIANTS says and nothing else. ``adapt_steps: 0``
is asked of the same trained weights. Early stopping looks at the validation part; stage by stage, each of the three stops by
itself. Results are kept below runs/cold_sequences, and what is there is not made again, so a killed run goes on where it was.
Tables in benchmarks/tables/cold-sequences-DATASET.md (cold-items-DATASET.md): means of the seeds by group, and which differences to
the full model, paired by question, are unlikely by chance. A cold user has one question.
"""

import argparse
import logging
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import accuracy
import pandas as pd
import torch
import yaml

from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.evaluation.compare import compare
from gmmrec.evaluation.evaluator import evaluate
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.kinds import load_results, monitored_value
from gmmrec.evaluation.results import EVERYTHING, Results, file_of
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mml import MML
from gmmrec.runs.recipe import RunConfig, read_config
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.query import HistoryQuery
from gmmrec.training.trainer import Trainer

HERE = Path(__file__).parent
RUNS = Path("runs/cold_sequences")
SPLITS: dict[str, dict[str, Any]] = {
    "cold_users": {"split.strategy": "cold_users", "split.test": 0.3},
    "cold_items": {"split.strategy": "cold_items", "split.valid": 0.1, "split.test": 0.2},
}
FILES = {"cold_users": "cold-sequences", "cold_items": "cold-items"}
ASKED = {
    "cold_users": "People who came last, of whom nothing is trained on, are asked for their last event",
    "cold_items": "Every event with an item that nobody has taken in training is asked for, among all items",
}
FULL, UNADAPTED = "MML", "MML, not adapted when asked"
VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "stage by stage": {"model.stage": "learners"},
    "without meta-learning": {"model.meta": False},
    "second order": {"model.first_order": False},
    "all learners alike": {"model.fusion": "mean"},
    "without the generator": {"model.generator": False},
}
SMALL = {"model.dim": 32, "model.num_layers": 1, "model.inner_steps": 2, "model.adapt_steps": 2}
METRICS = ("recall@10", "recall@20", "ndcg@20")
logger = logging.getLogger("cold_sequences")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["hm-fashion-next"])
    parser.add_argument("--split", choices=SPLITS, default="cold_users", help="who or what is cold")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="the full model is always made")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="at most so many, instead of what the settings say")
    parser.add_argument("--small", action="store_true", help="half as wide, one layer, two steps: for a first look")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets that are not bundled")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    changes = (
        SPLITS[arguments.split]
        | ({} if arguments.epochs is None else {"train.epochs": arguments.epochs})
        | (SMALL if arguments.small else {})
    )
    for dataset in arguments.datasets:
        found: dict[str, list[Results]] = {}
        for title in dict.fromkeys((FULL, *arguments.variants)):
            for seed in arguments.seeds:
                for name, results in answers(dataset, title, seed, arguments.data, changes).items():
                    found.setdefault(name, []).append(results)
        text = table(dataset, found, arguments)
        (HERE / "tables" / f"{FILES[arguments.split]}-{dataset}.md").write_text(text)
        print(text)


def answers(dataset: str, title: str, seed: int, data: Path, changes: dict[str, Any]) -> dict[str, Results]:
    """Test results of one variant, and of the full model also unadapted; made if they are not there."""
    config = settings_of(dataset, title, seed, data, changes)
    folder = RUNS / dataset / f"{title.replace(' ', '-')}-{accuracy.key(asdict(config))}-seed{seed}"
    names = (FULL, UNADAPTED) if title == FULL else (title,)
    if not all((folder / file_of(str(number))).is_file() for number in range(len(names))):
        started = time.perf_counter()
        model, graph, questions = trained(config)
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            if name == UNADAPTED:
                model.config = replace(model.config, adapt_steps=0)
            results = evaluate(
                model, graph, questions, metrics=("recall", "ndcg"), ks=(10, 20), groups=groups_of(graph, questions), bootstrap=0
            )
            results.save(folder, str(number))
            logger.info("%s %s seed %d: %.0f s, %s", dataset, name, seed, time.perf_counter() - started, results.mean())
    return {name: load_results(folder, str(number)) for number, name in enumerate(names)}


def settings_of(dataset: str, title: str, seed: int, data: Path, changes: dict[str, Any]) -> RunConfig:
    """Those of the accuracy tables with another split, and what the variant changes."""
    values = yaml.safe_load((HERE / "configs" / dataset / "mml.yaml").read_text())
    point = {name: tried[0] for name, tried in values.pop("grid").items()}
    point |= changes | VARIANTS[title]
    settings = accuracy.settings_of(dataset, values, point, data)
    return read_config("mml", settings | {"seed": seed})


def trained(config: RunConfig) -> tuple[MML, MultimodalGraph, RankingEvaluation[HistoryQuery]]:
    """A model that has learned, in three stages if the first of them is asked for; its graph, and the questions of the test."""
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


def groups_of(graph: MultimodalGraph, questions: RankingEvaluation[HistoryQuery]) -> dict[str, Group]:
    """People by how much is known of them; items by whether anybody took them in training."""
    length, cold = questions.query.mask.sum(1), graph.degree("item") == 0
    groups = {}
    for low, high in ((2, 4), (5, 14), (15, 10**9)):
        name = f"{low} to {high} events known" if high < 10**9 else f"{low} events known, or more"
        group = (length >= low) & (length <= high)
        if bool(group.any()):
            groups[name] = Group(group, "questions")
    return groups | {"known items": Group(~cold, "items"), "new items": Group(cold, "items")}


def table(dataset: str, found: dict[str, list[Results]], arguments: argparse.Namespace) -> str:
    """Means by group, with the paired difference to the full model where it is unlikely by chance."""
    groups = [EVERYTHING, *found[FULL][0].groups]
    seeds = [str(seed) for seed in arguments.seeds]
    command = f"python benchmarks/cold_sequences.py --datasets {dataset} --seeds {' '.join(seeds)}"
    command += "" if arguments.split == "cold_users" else f" --split {arguments.split}"
    command += "" if arguments.epochs is None else f" --epochs {arguments.epochs}"
    command += " --small" if arguments.small else ""
    who = "People" if arguments.split == "cold_users" else "Items"
    text = f"""# {who} of whom little is known, on {dataset}

{ASKED[arguments.split]}; means of seeds {", ".join(seeds)}. A star: the
difference to the full model, paired by question, has p below 0.05; not corrected for the number of comparisons.
Made by `{command}`.
"""
    for metric in METRICS:
        rows = []
        for group in groups:
            row: dict[str, Any] = {"group": group, "questions": len(found[FULL][0].group(group).position)}
            lines = {line.run: line for line in compare(found, metric=metric, group=group, reference=FULL).rows}
            for name in found:
                star = "*" if lines[name].p is not None and lines[name].p < 0.05 else ""
                row[name] = f"{lines[name].mean:.4f}{star}"
            rows.append(row)
        text += f"\n## {metric}\n\n{pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)}\n"
    return text


if __name__ == "__main__":
    main()
