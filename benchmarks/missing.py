"""Missing pictures and cold items: recall without features or interactions of items.

    python benchmarks/missing.py [--dataset tiktok] [--models mgat freedom] [--seeds 0 1 2] [--tables-only]

Two studies, with the settings that ``accuracy.py`` chose on validation. "missing": 0, 30 and 60 % of the image rows are masked at
random, the usual split. "cold": 20 % of the items lose their training interactions, so that only their features are known;
held-out interactions stay, and recall is that of all, warm and cold items, ranked among all items. Results are kept in
benchmarks/results/missing.csv, run folders below runs/missing; the table goes to benchmarks/tables/missing-DATASET.md.
"""

from dataclasses import replace
from typing import Any

import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.filter import hide_features
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from lab import command
from lab.cells import Cell, Lab
from lab.chosen import chosen
from lab.grid import path_of
from lab.results import Row, summarise
from lab.tables import by, markdown, page, seeds_of, shown, write

METRIC = "recall@20"
SHARES = (0.0, 0.3, 0.6)
COLD = "cold split"
GROUPS = ("all", "warm items", "cold items")
"""Columns of the cold split."""


def main() -> None:
    parser = command.parser(__doc__, seeds=(0,))
    parser.add_argument("--dataset", default="tiktok")
    parser.add_argument("--models", nargs="+", help="models (default: all with settings chosen by accuracy.py)")
    flags = command.start(parser)
    lab = Lab("missing", (METRIC,), data=flags.data, by_variant=True)
    if not flags.tables_only:
        for model, settings in sorted(chosen(flags.dataset).items()):
            for variant in [*map(missing, SHARES), COLD] if not flags.models or model in flags.models else ():
                for seed in flags.seeds:
                    measure(lab, Cell(flags.dataset, model, settings, seed, variant))
    write(tables(lab))


def missing(share: float) -> str:
    """Name of a variant."""
    return f"{share:.0%} of images missing"


def measure(lab: Lab, cell: Cell) -> None:
    """Run a cell on its reduced data unless its row exists, and keep recall by group."""
    if lab.store.find(**cell.key()) is not None:
        return
    config = cell.config(path_of(cell.dataset, lab.data))
    dataset = load_dataset(config.data)
    if cell.variant == COLD:
        dataset = with_cold_items(dataset, config.split, 0.2)
    share = next((share for share in SHARES if missing(share) == cell.variant), 0.0)
    if share:
        dataset = hide_features(dataset, "image", share, torch.Generator().manual_seed(0))
    report = lab.report(cell, dataset=dataset)
    found = groups_of(report)
    shown_groups = {f"{METRIC}, {group}": found[group] for group in GROUPS[1:] if group in found} if cell.variant == COLD else {}
    lab.record(cell, report, shown_groups)


def with_cold_items(dataset: Dataset, config: SplitConfig, share: float) -> Dataset:
    """Data set with a given split, without the training interactions of a random share of the items."""
    split = split_dataset(dataset, config, torch.Generator().manual_seed(config.seed))
    cold = torch.randperm(dataset.num_items, generator=torch.Generator().manual_seed(0))[: int(share * dataset.num_items)]
    train = split.train.take(~torch.isin(split.train.item, cold))
    parts = (train, split.valid, split.test)
    log = Interactions(torch.cat([part.user for part in parts]), torch.cat([part.item for part in parts]))
    given = torch.repeat_interleave(torch.arange(3), torch.tensor([len(part) for part in parts]))
    return replace(dataset, interactions=log, given_split=given)


def groups_of(report: dict[str, Any]) -> dict[str, float]:
    """Recall by group, for groups that have it."""
    return {name: group["metrics"][METRIC] for name, group in report["groups"].items() if METRIC in group["metrics"]}


def tables(lab: Lab) -> dict[str, str]:
    """A page per data set."""
    return {f"missing-{dataset}": table(dataset, rows) for (dataset,), rows in by(lab.store.rows, "dataset").items()}


def table(dataset: str, rows: list[Row]) -> str:
    """Page with one row per model: recall with missing pictures, and on the cold split by group."""
    columns = {f"{METRIC}, {missing(share)}": (missing(share), METRIC) for share in SHARES}
    columns |= {f"{COLD}, {group}": (COLD, METRIC if group == "all" else f"{METRIC}, {group}") for group in GROUPS}
    lines = []
    for (model,), found in by(rows, "model").items():
        means = [summarise([row for row in found if row["variant"] == variant], metric) for variant, metric in columns.values()]
        lines.append([model, *(shown(None if mean is None else mean.mean) for mean in means)])
    about = (
        f"{METRIC}, mean of seeds {', '.join(map(str, seeds_of(rows)))}. Left: image rows masked at random. "
        "Right: 20 % of the items "
        "without their training interactions; held-out interactions with warm and with cold items, ranked among all items. "
        f"Made by `python benchmarks/missing.py --dataset {dataset}`."
    )
    return page(f"Missing pictures and cold items on {dataset}", about, markdown(["model", *columns], lines))


if __name__ == "__main__":
    main()
