"""A lab in a temporary folder, with a small data set and declared settings of its own."""

from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.testing import checkerboard
from lab.cells import Lab

METRICS = ("recall@5", "recall@20", "ndcg@20")
SETTINGS = {
    "model": {"dim": 4, "num_layers": 1},
    "train": {"epochs": 4, "lr": 0.05, "patience": 9, "batch_size": 64, "progress": False, "checkpoint_every": 1},
    "eval": {"bootstrap": 0},
}


def toy_lab(folder: Path, name: str = "accuracy", **settings: bool) -> Lab:
    """A lab whose data set ``toy`` is a checkerboard of likes."""
    dataset, _ = checkerboard()
    log = dataset.interactions
    (folder / "data" / "toy").mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"user": log.user.numpy(), "item": log.item.numpy()})
    frame.to_csv(folder / "data" / "toy" / "interactions.csv", index=False)
    for modality, table in dataset.features.items():
        ids = np.flatnonzero(table.present.numpy())
        np.savez(folder / "data" / "toy" / f"{modality}_feat.npz", ids=ids, values=table.values.numpy()[ids])
    folders = {name: folder / name for name in ("data", "runs", "results", "configs")}
    return Lab(name, METRICS, **folders, **settings)
