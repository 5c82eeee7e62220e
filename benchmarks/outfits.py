"""Outfits: which item fills a blank, and which sets are real, for models that complete outfits and for controls.

Rows: what is worn most; categories (or items) that are worn together more often than chance would have it (PMI); a Siamese network
that brings items of one outfit near to each other; FOM, which guesses a hidden item from the others; POG, which reads the user's
history and begins with that FOM; and the same POG asked without histories. All answer the same questions.

    python benchmarks/outfits.py -d polyvore-outfits --models popularity pmi siamese fom --out benchmarks/tables/outfits-polyvore.md
    python benchmarks/outfits.py -d hm-baskets --out benchmarks/tables/outfits-hm-baskets.md
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.data.split import split_dataset
from gmmrec.evaluation.evaluator import EvalConfig
from gmmrec.evaluation.exams import take_exam
from gmmrec.evaluation.results import Results, aligned
from gmmrec.graph.build import build_graph
from gmmrec.run import Run
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import OutfitQuery
from gmmrec.tasks.questions import Choices, Sets

MODELS = ("popularity", "pmi", "siamese", "fom", "pog")
SHOWN = {"blanks": "accuracy", "compatibility": "auc"}


class Control(nn.Module):
    """A score of pairs of items, averaged over the outfit."""

    def __init__(self, table: Tensor, kind: Tensor) -> None:
        super().__init__()
        self.table, self.kind = table, kind

    def encode(self, graph: Any) -> dict[str, Tensor]:
        """Nothing is computed beforehand."""
        return {}

    def score(self, encoded: Mapping[str, Tensor], query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Mean of the pairs with what is there."""
        candidates = candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)
        pairs = self.table[self.kind[query.outfit][:, :, None], self.kind[candidates][:, None]]
        there = query.outfit_mask[:, :, None]
        return (pairs * there).sum(1) / there.sum(1).clamp(min=1)


class Popularity(Control):
    """How often an item of this kind was worn, whatever else is there."""

    def score(self, encoded: Mapping[str, Tensor], query: OutfitQuery, candidates: Tensor) -> Tensor:
        """The same for all outfits."""
        return self.table.sum(1)[self.kind[candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)]]


class Siamese(Control):
    """One network for both items of a pair; the score is the cosine of what it makes of them."""

    def __init__(self, features: Tensor, dim: int = 64) -> None:
        nn.Module.__init__(self)
        self.features = features
        self.network = nn.Sequential(nn.Linear(features.shape[1], 128), nn.ReLU(), nn.Linear(128, dim))

    def vectors(self, rows: Tensor) -> Tensor:
        """Of items, at length 1."""
        return F.normalize(self.network(F.embedding(rows, self.features)), dim=-1)

    def encode(self, graph: Any) -> dict[str, Tensor]:
        """Vectors of all items."""
        return {"item": torch.cat([self.vectors(rows) for rows in torch.arange(len(self.features)).split(8192)])}

    def score(self, encoded: Mapping[str, Tensor], query: OutfitQuery, candidates: Tensor) -> Tensor:
        """Mean cosine with what is there."""
        item = encoded["item"]
        mean = (item[query.outfit] * query.outfit_mask[..., None]).sum(1) / query.outfit_mask.sum(1, keepdim=True).clamp(min=1)
        chosen = item[candidates if candidates.dim() == 2 else candidates.expand(len(query), -1)]
        return (chosen @ mean[..., None])[..., 0]

    def learn(self, task: OutfitTask, epochs: int, seed: int) -> None:
        """Softmax over an item of the same outfit and a random one, in view of another item of it."""
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


def worn_together(dataset: Dataset, *, smoothing: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Counts of pairs of kinds in training outfits, their pointwise mutual information, and the kind of every item.

    Kinds are categories; items without one are their own kind where they are few enough, else one kind together.
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


def judged(model: Any, graph: Any, task: OutfitTask) -> dict[str, Results]:
    """The two exams that every row takes."""
    exams: dict[str, Choices[Any] | Sets] = {"blanks": task.blanks("test"), "compatibility": task.compatibility("test")}
    return {name: take_exam(model, graph, exam, EvalConfig()) for name, exam in exams.items()}


def without_histories(run: Run) -> dict[str, Results]:
    """What a run achieves if it is told nothing of users."""
    task = run.task()
    assert isinstance(task, OutfitTask)
    found = {}
    for name, exam in (("blanks", task.blanks("test")), ("compatibility", task.compatibility("test"))):
        query = replace(exam.query, history=None, history_mask=None)
        found[name] = take_exam(run.model, run.graph, replace(exam, query=query), run.eval_config())
    return found


def row(name: str, found: Mapping[str, Results], seed: int, seconds: float) -> list[str]:
    cells = [name, str(seed)]
    for exam, metric in SHOWN.items():
        low, high = found[exam].intervals()[metric]
        cells.append(f"{found[exam].mean()[metric]:.3f} ({low:.3f} to {high:.3f})")
    return [*cells, f"{seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--data", required=True, help="a data set with outfits")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--no-ids", action="store_true", help="items are known by their features alone")
    parser.add_argument("--length", type=int, default=20, help="items of a history")
    parser.add_argument("--out", type=Path, help="the table, as Markdown")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dataset = gmmrec.load_dataset(flags.data)
    split = split_dataset(dataset)
    task = OutfitTask(split, dataset.num_users, dataset.num_items)
    graph = build_graph(dataset, split)
    rows = []

    def report(name: str, found: Mapping[str, Results], seed: int, started: float) -> None:
        rows.append(row(name, found, seed, time.perf_counter() - started))
        text = aligned([["model", "seed", "blanks: accuracy", "compatibility: AUC", "seconds"], *rows])
        print(text, flush=True)
        if flags.out is not None:
            flags.out.write_text(f"# Outfits of {dataset.name}\n\n{text}", encoding="utf-8")

    pairs, information, kind = worn_together(dataset)
    for seed in flags.seeds:
        started = time.perf_counter()
        if "popularity" in flags.models and seed == flags.seeds[0]:
            report("popularity of the category", judged(Popularity(pairs, kind), graph, task), seed, started)
        if "pmi" in flags.models and seed == flags.seeds[0]:
            report("PMI of categories", judged(Control(information, kind), graph, task), seed, started)
        if "siamese" in flags.models:
            torch.manual_seed(seed)
            siamese = Siamese(torch.cat([table.unit for table in graph.features.values()], 1))
            siamese.learn(task, 10, seed)
            report("Siamese network", judged(siamese, graph, task), seed, started)
        settings: dict[str, Any] = {"seed": seed, "epochs": flags.epochs, "batch_size": flags.batch_size, "ids": not flags.no_ids}
        settings |= {"patience": 6, "max_length": flags.length}
        with tempfile.TemporaryDirectory() as folder:
            if "fom" in flags.models or "pog" in flags.models:
                started = time.perf_counter()
                fom = gmmrec.fit(dataset, "pog", personal=False, out=folder, **settings)
                report("FOM", {name: fom.exams[name]["test"] for name in SHOWN}, seed, started)
            if "pog" in flags.models:
                started = time.perf_counter()
                pog = gmmrec.fit(dataset, "pog", init_from=folder, **settings)
                report("POG, begun with FOM", {name: pog.exams[name]["test"] for name in SHOWN}, seed, started)
                report("the same POG, told no histories", without_histories(pog), seed, started)


if __name__ == "__main__":
    main()
