"""Outfits: fill in the blank and compatibility, for models that complete outfits and for controls.

Rows: popularity; the pointwise mutual information (PMI) of categories (or items) in outfits; a Siamese network with similar vectors
for items of one outfit; FOM, which predicts a masked item from the others; POG, which reads the user's history and is initialised
from that FOM, as in the paper and with additions; the same POG without histories; and NOR, for data with regions of pictures, with
and without mutual attention. All have the same queries: those that come with the data, or every item of every test outfit in turn,
beside three items of other test outfits, sampled ROUNDS times. Means and tests are over outfits. Validation chooses the epoch only.

Values per query are kept below runs/outfits, results in benchmarks/results/outfits.csv; existing ones are not run again, and an
interrupted run resumes. The table goes to benchmarks/tables/outfits-DATA.md.

    python benchmarks/outfits.py -d polyvore-outfits --models popularity pmi siamese fom --no-ids --batch-size 512 --epochs 8
    python benchmarks/outfits.py -d runs/content/hm-baskets --no-ids --dim 128 --layers 1 --seeds 0 1 2
    python benchmarks/outfits.py -d runs/content/hm-baskets-regions --models pmi nor nor-mean --seeds 0 1 2
    python benchmarks/outfits.py --tables-only
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.split import split_dataset
from gmmrec.evaluation.kinds import evaluate_task, load_results
from gmmrec.evaluation.results import Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import build_graph
from gmmrec.models.pog import POGConfig
from gmmrec.recommender import Encoded
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, CompatibilityEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import OutfitQuery
from lab import command
from lab.cells import commit, resumed
from lab.grid import digest
from lab.results import Row, Store, average, count_runs, summarise
from lab.significance import Significance
from lab.tables import by, markdown, page, shown, spread, write

RUNS = Path("runs/outfits")
KEYS = ("dataset", "model", "seed")
TITLES = {
    "popularity": "popularity of the category",
    "pmi": "PMI of categories",
    "siamese": "Siamese network",
    "fom": "FOM",
    "pog": "POG, initialised from FOM",
    "pog-alone": "the same POG without histories",
    "repeats": "POG with `repeats`",
    "repeats-alone": "the same without histories",
    "nor": "NOR, matching only",
    "nor-mean": "the same without mutual attention",
}
MODELS = tuple(TITLES)
COUNTED = ("popularity", "pmi")
"""Untrained models, independent of the seed."""
SHOWN = {"fill_in_the_blank": "accuracy", "compatibility": "auc"}
UNIMPORTANT = ("data", "models", "seeds", "threads", "tables_only")
"""Flags without effect on a row."""
ROUNDS = 10
"""Samples of irrelevant candidates per blank."""


class Control(nn.Module):
    """Baseline that averages a score of item pairs over the outfit."""

    def __init__(self, table: Tensor, kind: Tensor) -> None:
        super().__init__()
        self.table, self.kind = table, kind

    def encode(self, graph: Any) -> Encoded:
        """Return nothing; there is nothing to precompute."""
        return Encoded({})

    def score(self, encoded: Encoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Return the mean score of pairs with the items of the outfit."""
        candidates = candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)
        pairs = self.table[self.kind[query.outfit][:, :, None], self.kind[candidates][:, None]]
        there = query.outfit_mask[:, :, None]
        return (pairs * there).sum(1) / there.sum(1).clamp(min=1)


class Popularity(Control):
    """Baseline that counts items of a kind in training outfits, whatever the context."""

    def score(self, encoded: Encoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Return the count of each candidate's kind."""
        return self.table.sum(1)[self.kind[candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)]]


class Siamese(Control):
    """Siamese network over features of two items, scored by cosine similarity."""

    def __init__(self, features: Tensor, dim: int = 64) -> None:
        nn.Module.__init__(self)
        self.features = features
        self.network = nn.Sequential(nn.Linear(features.shape[1], 128), nn.ReLU(), nn.Linear(128, dim))

    def vectors(self, rows: Tensor) -> Tensor:
        """Return unit vectors of items."""
        return F.normalize(self.network(F.embedding(rows, self.features)), dim=-1)

    def encode(self, graph: Any) -> Encoded:
        """Return the vectors of all items."""
        return Encoded({"item": torch.cat([self.vectors(rows) for rows in torch.arange(len(self.features)).split(8192)])})

    def score(self, encoded: Encoded, query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Return the mean cosine with the items of the outfit."""
        item = encoded["item"]
        mean = (item[query.outfit] * query.outfit_mask[..., None]).sum(1) / query.outfit_mask.sum(1, keepdim=True).clamp(min=1)
        chosen = item[candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)]
        return (chosen @ mean[..., None])[..., 0]

    def learn(self, task: OutfitTask, epochs: int, seed: int) -> None:
        """Train by softmax over an item of the same outfit and a random one, given another item of the outfit."""
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        for _ in range(epochs):
            for _, batch in task.batches(None, generator):  # type: ignore[arg-type]
                query = batch.query
                anchor = query.outfit.gather(1, torch.multinomial(query.outfit_mask.float(), 1, generator=generator))
                near, far = self.vectors(batch.positive[:, None]), self.vectors(batch.negative)
                other = self.vectors(anchor)
                logits = 10 * torch.cat([(other * near).sum(-1), (other * far).sum(-1)], 1)
                loss = F.cross_entropy(logits, torch.zeros(len(batch), dtype=torch.long))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def cooccurrence_scores(dataset: Dataset, *, smoothing: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts of pairs of kinds in training outfits, their pointwise mutual information, and the kind of every item.

    Kinds are categories; items without a category are one kind together.
    """
    outfits = dataset.outfits
    assert outfits is not None
    kind = torch.zeros(dataset.num_items, dtype=torch.long) if outfits.category is None else outfits.category.clone()
    unknown = kind < 0
    kind[unknown] = int(kind.max()) + 1
    training = outfits.items.take(torch.nonzero(outfits.part == 0).flatten())
    size = int(kind.max()) + 1
    rows, mask = training.last(int(training.counts.max()))
    present = torch.zeros(len(training), size).scatter_add_(1, kind[rows], mask.float())
    pairs = present.t() @ present
    single = present.sum(0)
    pairs -= torch.diag(single)
    chance = single[:, None] * single[None, :] / single.sum()
    return pairs, ((pairs + smoothing) / (chance + smoothing)).log(), kind


class Bench:
    """Models on one data set, with shared evaluation tasks.

    Args:
        flags: Flags of the command.
    """

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.dataset = gmmrec.load_dataset(flags.data, modalities=flags.modalities)
        self.split = split_dataset(self.dataset)
        settings = POGConfig(max_length=flags.length)
        self.task = OutfitTask(TaskInputs(self.split, self.dataset.num_users, self.dataset.num_items, settings=settings))
        self.graph = build_graph(self.dataset, self.split)
        self.fill_in_the_blank = self.task.fill_in_the_blank("test", rounds=ROUNDS)
        self.sets = self.task.compatibility("test")

    def evaluate(self, model: Any, graph: Any, *, histories: bool = True) -> dict[str, Results]:
        """Return the results of fill in the blank, by outfit, and of compatibility."""
        tasks: dict[str, CandidateEvaluation[Any] | CompatibilityEvaluation] = {
            "fill_in_the_blank": self.fill_in_the_blank,
            "compatibility": self.sets,
        }
        if not histories:
            no_history = {"history": None, "history_mask": None}
            tasks = {name: replace(task, query=replace(task.query, **no_history)) for name, task in tasks.items()}
        found = {name: evaluate_task(model, graph, task, EvalConfig()) for name, task in tasks.items()}
        return found | {"fill_in_the_blank": self.by_outfit(found["fill_in_the_blank"])}

    def by_outfit(self, found: Results) -> Results:
        """Average the values of each outfit over its fill-in-the-blank tasks."""
        outfits = self.task.outfits
        if outfits.fill_in_the_blank is not None:
            return found
        count = outfits.items.counts[outfits.part == 2]
        owner = torch.arange(len(count)).repeat_interleave(count).repeat(ROUNDS)
        values = {
            name: torch.zeros(len(count), dtype=torch.double).index_add_(0, owner, value.double()) / (count * ROUNDS)
            for name, value in found.values.items()
        }
        return replace(found, values=values, query=torch.arange(len(count)), relevant=count)

    def results(self, name: str, seed: int) -> tuple[dict[str, Results], float]:
        """Return results and seconds of one row; run it if they are missing."""
        folder = self.folder(name, seed) / "answers"
        if not (folder / "seconds.json").is_file():
            started = time.perf_counter()
            found = self.made(name, seed)
            seconds = time.perf_counter() - started
            folder.mkdir(parents=True, exist_ok=True)
            for task, results in found.items():
                results.save(folder, task)
            (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
            logging.info("%s seed %d: %.0f s, %s", name, seed, seconds, {task: found[task].mean()[SHOWN[task]] for task in SHOWN})
        return {task: load_results(folder, task) for task in SHOWN}, json.loads((folder / "seconds.json").read_text())

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a row."""
        settings = {key: value for key, value in vars(self.flags).items() if key not in UNIMPORTANT}
        return RUNS / self.dataset.name / f"{name}-{digest(settings)}-seed{seed}"

    def made(self, name: str, seed: int) -> dict[str, Results]:
        """Train and evaluate the model of a row."""
        if name.endswith("-alone"):
            whole = name.removesuffix("-alone")
            self.results(whole, seed)
            run = gmmrec.load(self.folder(whole, seed))
            return self.evaluate(run.model, run.graph, histories=False)
        pairs, information, kind = cooccurrence_scores(self.dataset)
        controls: dict[str, Callable[[], Control]] = {
            "popularity": lambda: Popularity(pairs, kind),
            "pmi": lambda: Control(information, kind),
            "siamese": lambda: self.siamese(seed),
        }
        if name in controls:
            return self.evaluate(controls[name](), self.graph)
        run = resumed(self.dataset, "nor" if name.startswith("nor") else "pog", self.settings(name, seed), self.folder(name, seed))
        return self.evaluate(run.model, run.graph)

    def siamese(self, seed: int) -> Siamese:
        """Return a trained Siamese network."""
        torch.manual_seed(seed)
        model = Siamese(torch.cat([table.unit for table in self.graph.features.values()], 1))
        model.learn(self.task, 10, seed)
        return model

    def settings(self, name: str, seed: int) -> dict[str, Any]:
        """Return the settings of a model by the name of its row."""
        flags = self.flags
        common = {"seed": seed, "monitor": "fill_in_the_blank/auc"}
        if name.startswith("nor"):
            train = {"lr": 3e-3, "batch_size": 128, "num_negatives": 4, "clip_norm": 5.0, "patience": 5, "epochs": flags.epochs}
            small = {"dim": 32, "attention_hidden": 32, "comment_weight": 0.0, "examples": "outfits", "unit_features": False}
            model = small | {"mutual": name == "nor", "max_length": flags.length}
            return common | {"train": train | {"progress": False}, "model": model}
        sizes = {"dim": flags.dim, "hidden_dim": flags.dim, "num_layers": flags.layers, "ids": not flags.no_ids}
        model = sizes | {"max_length": flags.length}
        train = {"batch_size": flags.batch_size, "epochs": flags.epochs, "patience": 8, "progress": False}
        if name == "fom":
            return common | {"train": train, "model": model | {"personal": False}}
        self.results("fom", seed)
        model |= {"freeze_items": True, "positions": True, "repeats": name == "repeats", "examples": "outfits"}
        return common | {"train": train | {"patience": 15}, "model": model, "init_from": str(self.folder("fom", seed))}


def measure(flags: argparse.Namespace, store: Store, tests: Significance, made_by: str) -> None:
    """Run all rows, and keep the results instead of earlier ones on the same data."""
    bench = Bench(flags)
    found: dict[str, list[tuple[dict[str, Results], float]]] = {name: [] for name in flags.models}
    for seed in flags.seeds:  # a whole comparison first, then the next seed
        for name in flags.models:
            if seed == flags.seeds[0] or name not in COUNTED:
                found[name].append(bench.results(name, seed))
    about: dict[str, Any] = {
        "fill_in_the_blank": len(bench.fill_in_the_blank),
        "outfits": int((bench.task.outfits.part == 2).sum()),
        "sets": len(bench.sets),
    }
    about |= {"command": made_by, "commit": commit(), "ties": TIES}
    rows = [
        {"dataset": bench.dataset.name, "model": name, "seed": seed}
        | values(results, alone=len(made) == 1)
        | {"seconds": seconds}
        | about
        for name, made in found.items()
        for seed, (results, seconds) in zip(flags.seeds, made, strict=False)
    ]
    store.replace(rows, dataset=bench.dataset.name)
    reference = "fom" if "fom" in found else flags.models[-1]
    for task, metric in COLUMNS[:2] if len(found) > 1 else ():
        runs = {TITLES[name]: [results[task] for results, _ in made] for name, made in found.items()}
        tests.test(runs, dataset=bench.dataset.name, metric=f"{task}/{metric}", reference=TITLES[reference], unit="outfit")


COLUMNS = (("fill_in_the_blank", "accuracy"), ("fill_in_the_blank", "auc"), ("compatibility", "auc"))
TIES = "random order"
"""Treatment of ties; rows without it were measured when a tie with the relevant candidate was an error."""
NAMES = ("fill in the blank: accuracy", "fill in the blank: AUC", "compatibility: AUC")


def values(results: dict[str, Results], *, alone: bool) -> dict[str, float]:
    """Means of one run, with their intervals if it is the only seed."""
    found: dict[str, float] = {}
    for task, metric in COLUMNS:
        found[f"{task}/{metric}"] = results[task].mean()[metric]
        if alone:
            low, high = results[task].intervals()[metric]
            found |= {f"{task}/{metric} low": low, f"{task}/{metric} high": high}
    return found


def tables(store: Store, tests: Significance) -> dict[str, str]:
    """A page per data set."""
    return {f"outfits-{name}": table(name, rows, tests) for (name,), rows in by(store.rows, "dataset").items()}


def table(dataset: str, rows: list[Row], tests: Significance) -> str:
    """Page of means over seeds, and each model against FOM (or the last row, if FOM is missing)."""
    first = rows[0]
    sizes = [int(first[name]) if name in first else None for name in ("fill_in_the_blank", "outfits", "sets")]
    counts = (
        "" if None in sizes else "{:,} fill-in-the-blank tasks in {:,} test outfits, {:,} sets for compatibility. ".format(*sizes)
    )
    counted = first.get("ties") == TIES
    ties = "Tied candidates count as a random order." if counted else "A tie with the relevant candidate counts as an error."
    about = (
        f"{counts}{ties} 95 % intervals (one seed) in "
        "parentheses, or ± the standard deviation between seeds. Seconds on a shared machine."
    )
    lines = []
    for (name,), found in by(rows, "model").items():
        cells = [cell(found, f"{task}/{metric}") for task, metric in COLUMNS]
        lines.append([TITLES[name], str(count_runs(found)), *cells, shown(average(found, "seconds"), ".0f")])
    header = ["model", "seeds", *NAMES, "seconds"]
    made_by = f"Made by `{first['command']}`."
    significance = tests.markdown(dataset)
    return page(f"Outfits: {dataset}", made_by, about, markdown(header, lines), *significance, name=f"outfits-{dataset}")


def cell(rows: list[Row], metric: str) -> str:
    """Mean over seeds and standard deviation, or the interval of a single seed."""
    digits = int(rows[0].get("digits", "4"))
    text = spread(summarise(rows, metric), alone=False, digits=digits)
    ends = [rows[0].get(f"{metric} {end}") for end in ("low", "high")]
    low, high = (f"{float(end):.{digits}f}" if end else "" for end in ends)
    return f"{text} ({low} to {high})" if low and high else text


def main() -> None:
    parser = command.parser(__doc__, seeds=(0,), threads=1, data=False)
    parser.add_argument("-d", "--data", help="data set with outfits")
    parser.add_argument("--modalities", nargs="+", help="modalities to use (default: all)")
    parser.add_argument("--models", nargs="+", default=list(MODELS[:8]), choices=MODELS)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--dim", type=int, default=64, help="width of items and of networks")
    parser.add_argument("--layers", type=int, default=2, help="number of layers of every network")
    parser.add_argument("--no-ids", action="store_true", help="use only item features, no ID embeddings")
    parser.add_argument("--length", type=int, default=20, help="history length")
    flags = command.start(parser)
    if flags.data is None and not flags.tables_only:
        parser.error("expected a data set with outfits, but none is named; add -d, or --tables-only")
    store, tests = Store("outfits", keys=KEYS), Significance("outfits")
    if not flags.tables_only:
        given = command.given(parser, flags, leave_out=("data", "threads", "tables_only"))
        measure(flags, store, tests, f"python benchmarks/outfits.py -d {flags.data} {given}".strip())
    write(tables(store, tests))


if __name__ == "__main__":
    main()
