"""Missing pictures and cold items: how much recall is left when features or interactions of items are not there.

    python benchmarks/missing.py [--dataset tiktok] [--models mgat freedom] [--seeds 0 1 2]

Two studies, with the settings that ``accuracy.py`` chose on validation. "missing": 0, 30 and 60 % of the image rows are masked at
random, the usual split. "cold": 20 % of the items lose their training interactions, so that features alone speak for them; what is
held out stays, and recall is of all, warm and cold items, every one ranked among all. The table goes to
benchmarks/tables/missing-DATASET.md. Reports are kept below runs/missing and skipped when they are there.
"""

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy
import pandas as pd
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.filter import hide_features
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.runs.recipe import read_config, run

HERE = Path(__file__).parent
RUNS = Path("runs/missing")
SHARES = (0.0, 0.3, 0.6)
logger = logging.getLogger("missing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tiktok")
    parser.add_argument("--models", nargs="+", help="which models (default: all that accuracy.py has chosen settings for)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    chosen = sorted((accuracy.RUNS / arguments.dataset).glob("*/chosen.json"))
    rows = []
    for path in chosen:
        name = path.parent.name
        if arguments.models and name not in arguments.models:
            continue
        settings = json.loads(path.read_text())["settings"]
        row: dict[str, Any] = {"model": name}
        for share in SHARES:
            reports = [report(arguments.dataset, name, settings, seed, missing=share) for seed in arguments.seeds]
            row[f"recall@20, {share:.0%} of images missing"] = mean(reports, "all")
        reports = [report(arguments.dataset, name, settings, seed, missing=0.0, cold=True) for seed in arguments.seeds]
        row |= {f"cold split, {group}": mean(reports, group) for group in ("all", "warm items", "cold items")}
        rows.append(row)
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4f")
    text = f"""# Missing pictures and cold items on {arguments.dataset}

recall@20, mean of seeds {", ".join(map(str, arguments.seeds))}. Left: image rows masked at random. Right: 20 % of the items
without their training interactions; what is held out of warm items, and of cold ones, every one ranked among all items.
Made by `python benchmarks/missing.py --dataset {arguments.dataset}`.

{table}
"""
    (HERE / "tables" / f"missing-{arguments.dataset}.md").write_text(text)
    print(text)


def mean(reports: list[dict[str, float]], group: str) -> float:
    return sum(report[group] for report in reports) / len(reports)


def report(dataset: str, name: str, settings: dict[str, Any], seed: int, *, missing: float, cold: bool = False) -> dict[str, float]:
    """recall@20 by group, made if it is not there."""
    path = RUNS / dataset / name / f"{accuracy.key(settings)}-{missing:.1f}-{'cold' if cold else 'given'}-seed{seed}.json"
    if not path.is_file():
        values = {key: value for key, value in settings.items() if key != "model_name"} | {"seed": seed}
        config = read_config(settings.get("model_name", name), values)
        loaded = load_dataset(config.data)
        if cold:
            loaded = with_cold_items(loaded, config.split, 0.2)
        if missing:
            loaded = hide_features(loaded, "image", missing, torch.Generator().manual_seed(0))
        started = time.perf_counter()
        finished = run(config, dataset=loaded)
        result = {group: values["recall@20"] for group, values in groups_of(finished.report).items() if "recall@20" in values}
        logger.info("%s %s %.1f %s: %.0f s, %s", dataset, name, missing, cold, time.perf_counter() - started, result)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    loaded_report: dict[str, float] = json.loads(path.read_text())
    return loaded_report


def with_cold_items(dataset: Dataset, config: SplitConfig, share: float) -> Dataset:
    """The data set, its split given, without the training interactions of a random share of the items."""
    split = split_dataset(dataset, config, torch.Generator().manual_seed(config.seed))
    cold = torch.randperm(dataset.num_items, generator=torch.Generator().manual_seed(0))[: int(share * dataset.num_items)]
    train = split.train.take(~torch.isin(split.train.item, cold))
    parts = (train, split.valid, split.test)
    log = Interactions(torch.cat([part.user for part in parts]), torch.cat([part.item for part in parts]))
    given = torch.repeat_interleave(torch.arange(3), torch.tensor([len(part) for part in parts]))
    return replace(dataset, interactions=log, given_split=given)


def groups_of(finished: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {"all": finished["test"], **{name: group["metrics"] for name, group in finished["groups"].items()}}


if __name__ == "__main__":
    main()
