"""A lab in a temporary folder, with a small data set and declared settings of its own."""

from pathlib import Path

import pandas as pd

from lab.cells import Lab
from tests.toy import checkerboard

METRICS = ("recall@5", "ndcg@20")
SETTINGS = {
    "model": {"dim": 4, "num_layers": 1},
    "train": {"epochs": 4, "lr": 0.05, "patience": 9, "batch_size": 64, "progress": False, "checkpoint_every": 1},
    "eval": {"bootstrap": 0},
}


def toy_lab(folder: Path) -> Lab:
    """A lab whose data set ``toy`` is a checkerboard of likes."""
    log = checkerboard()[0].interactions
    (folder / "data" / "toy").mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"user": log.user.numpy(), "item": log.item.numpy()})
    frame.to_csv(folder / "data" / "toy" / "interactions.csv", index=False)
    folders = {name: folder / name for name in ("data", "runs", "results", "configs")}
    return Lab("accuracy", METRICS, **folders)
