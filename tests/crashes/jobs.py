"""Small runs that are killed: what they train, and what they answer."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd
import torch

import gmmrec
from gmmrec.data.dataset import Dataset
from gmmrec.testing import checkerboard

SETTINGS: dict[str, dict[str, object]] = {
    "lightgcn": {"dim": 8, "num_layers": 1},
    "mgat": {"dim": 8},
    "freedom": {"dim": 8},
    "bert4rec": {"dim": 8},
    "ease": {},
}
"""Settings of the models; a blend is made of two finished runs."""
QUICK = {"epochs": 2, "train": {"batch_size": 256, "progress": False}, "eval": {"bootstrap": 0}}


@cache
def toy() -> Dataset:
    data = checkerboard(40, 30)[0]
    log = data.interactions
    return replace(data, interactions=replace(log, time=torch.arange(len(log)) * 3600))


@dataclass(frozen=True)
class Job:
    """Work on one folder."""

    name: str
    members: tuple[Path, Path] | None = None
    """Finished runs of a blend."""

    def start(self, folder: Path, *, overwrite: bool = False, seed: int = 0) -> None:
        """Train and save, or blend."""
        if self.members is not None:
            gmmrec.blend(list(self.members), weights=[1, 2 + seed], out=folder, overwrite=overwrite)
        else:
            gmmrec.fit(toy(), self.name, out=folder, overwrite=overwrite, seed=seed, **self.settings)

    def resume(self, folder: Path) -> None:
        """Go on with what was killed."""
        if self.members is not None:
            self.start(folder, overwrite=True)
        else:
            gmmrec.fit(toy(), out=folder, resume=True)

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the run."""
        split = {"split": {"strategy": "leave_last_out"}} if self.name == "bert4rec" else {}
        return {**QUICK, **SETTINGS[self.name], **split}


def answer(folder: Path) -> pd.DataFrame:
    """Return the answers of the finished run in a folder, and its results: all that a mixture of runs would change."""
    found = gmmrec.load(folder)
    frame = found.recommend(k=5)
    return frame.assign(metrics=str(found.report["test"]), settings=str(found.config.to_dict()))
