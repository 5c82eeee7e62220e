"""Memory: of training over many epochs, which must not grow, and of reading a data set, at its peak.

flat     resident memory of a process that trains on the bundled films for 200 epochs, validated and saved after each
loading  peak of a process that reads a data set and builds its graph, over what its imports need

    python benchmarks/memory.py --part flat,loading

Every figure comes from a new process. Memory is that of Linux's /proc; elsewhere only peaks are known. Synthetic data are read
from CSV files and an array of features; the real ones where they lie below --data.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.data.synthetic import SyntheticConfig, synthetic_dataset
from gmmrec.data.write import write_folder
from gmmrec.evaluation.kinds import monitored_value
from gmmrec.graph.build import build_graph
from gmmrec.runs import recipe
from lab import command
from lab.paths import DATA
from lab.tables import markdown
from lab.timing import in_new_process, peak_mib

SETTINGS: dict[str, dict[str, Any]] = {
    "lightgcn": {"dim": 32},
    "freedom": {"dim": 32},
    "mgat": {"dim": 16, "sampled": True, "num_neighbors": (5, 5)},
    "bert4rec": {"dim": 16, "max_length": 20, "split": {"strategy": "leave_last_out"}},
}
"""One of each way to make a graph or a batch of an epoch: the same graph, a thinned one, subgraphs, histories."""
WARM_UP, LAST = slice(10, 30), slice(-20, None)
"""Epochs that are compared, by the median of each."""
SIZES = ((10_000, 5_000, 100_000), (100_000, 20_000, 1_000_000))
"""Users, items and interactions of synthetic data."""
REAL = ("amazon-baby", "ml-100k")


def resident_mib() -> float:
    """Return the resident memory of this process in MiB; its peak where only that is known."""
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmRSS:")[1].split()[0]) / 2**10 if status.is_file() else peak_mib()


def memory_by_epoch(model: str, epochs: int, threads: int) -> list[float]:
    """Train a model into a folder and return the resident memory after the validation of every epoch in MiB."""
    torch.set_num_threads(threads)
    found: list[float] = []

    def measured(*arguments: Any, **named: Any) -> float:
        value = monitored_value(*arguments, **named)
        found.append(resident_mib())
        return value

    settings = {"epochs": epochs, "patience": epochs, "progress": False, "accelerator": "cpu", **SETTINGS[model]}
    with tempfile.TemporaryDirectory() as folder, patch.object(recipe, "monitored_value", measured):
        recipe.fit("movies-small", model, out=Path(folder) / "run", bootstrap=0, **settings)
    return found


def flat(models: Sequence[str], epochs: int, threads: int) -> list[dict[str, object]]:
    """Return one row per model: memory early and late, and the growth between."""
    rows = []
    for model in models:
        found = in_new_process(memory_by_epoch, model, epochs, threads)
        early, late = median(found[WARM_UP]), median(found[LAST])
        rows.append(
            {
                "model": model,
                "epochs": len(found),
                "early MiB": early,
                "late MiB": late,
                "growth MiB": late - early,
                "peak MiB": max(found),
            }
        )
    return rows


def memory_of_loading(path: str) -> dict[str, float]:
    """Return the peak of reading a data set and of building its graph, over the memory before, in MiB."""
    torch.set_num_threads(1)
    before = resident_mib()
    dataset = load_dataset(path)
    loaded = peak_mib() - before
    split = split_dataset(dataset, SplitConfig(), torch.Generator().manual_seed(0))
    build_graph(dataset, split)
    held = sum(x.numel() * x.element_size() for x in dataset.interactions.columns().values())
    held += sum(table.values.numel() * table.values.element_size() for table in dataset.features.values())
    return {
        "interactions": len(dataset.interactions),
        "tables MiB": held / 2**20,
        "loading MiB": loaded,
        "with graph MiB": peak_mib() - before,
    }


def loading(data: Path) -> list[dict[str, object]]:
    """Return one row per data set: the size of its files and tables, and the peak of reading it."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as base:
        sources = {"films (bundled)": "movies-small"}
        for users, items, interactions in SIZES:
            config = SyntheticConfig(users, items, interactions, dims={"image": 64})
            folder = Path(base) / str(interactions)
            write_folder(synthetic_dataset(config, torch.Generator().manual_seed(0)), folder)
            sources[f"synthetic, {users:,} users, {items:,} items"] = str(folder)
        sources |= {name: str(data / name) for name in REAL if (data / name).is_dir()}
        for name, source in sources.items():
            files = sum(path.stat().st_size for path in Path(source).rglob("*") if path.is_file()) / 2**20
            found = in_new_process(memory_of_loading, source)
            rows.append({"data": name, "files MiB": files if files else None, **found})
    return rows


def shown(rows: list[dict[str, object]]) -> str:
    """Render rows as a table, numbers without decimals where they are counts."""
    cells = [
        [
            f"{value:.1f}"
            if isinstance(value, float)
            else ""
            if value is None
            else f"{value:,}"
            if isinstance(value, int)
            else str(value)
            for value in row.values()
        ]
        for row in rows
    ]
    return markdown(list(rows[0]), cells)


def main() -> None:
    made = command.plain_parser(__doc__, threads=1)
    made.add_argument("--part", default="flat,loading", help="parts, separated by commas (default: %(default)s)")
    made.add_argument("--models", nargs="+", default=list(SETTINGS), choices=SETTINGS, help="models of the flat part")
    made.add_argument("--epochs", type=int, default=200, help="epochs of the flat part (default: %(default)s)")
    made.add_argument("--data", type=Path, default=DATA, help="folder of the data sets that are not bundled")
    flags = command.start(made)
    for part in flags.part.split(","):
        print(
            shown(flat(flags.models, flags.epochs, flags.threads) if part == "flat" else loading(flags.data)),
            end="\n\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
