"""What is written down during training: the terms of every step, and a line an epoch."""

import logging
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from typing_extensions import Self

from gmmrec.training.history import Epoch, History, HistoryFile

logger = logging.getLogger(__name__)


class TermLog:
    """Collects the loss terms of one epoch without waiting for the device at every step.

    Args:
        epoch: Its number, for messages.
    """

    _LOOK_EVERY = 100  # steps between two looks at the values: each look waits for the device

    def __init__(self, epoch: int) -> None:
        self._epoch, self._step = epoch, 0
        self._pending: dict[str, list[tuple[int, Tensor]]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Takes note of the terms of the next step.

        Raises:
            ValueError: There is no term, or one of the last steps had a term that is not finite.
        """
        self._step += 1
        if not terms:
            raise ValueError(
                f"the loss of step {self._step} of epoch {self._epoch} has no terms, but the model has weights to train"
            )
        for name, value in terms.items():
            self._pending.setdefault(name, []).append((self._step, value.detach()))
        if self._step % self._LOOK_EVERY == 0:
            self._look()

    def means(self) -> dict[str, float]:
        """Mean of every term over the steps that had it.

        Raises:
            ValueError: A term is not finite, or there was no step.
        """
        if not self._step:
            raise ValueError(f"epoch {self._epoch} has no batches, so there is nothing to learn from")
        self._look()
        return {name: total / count for name, (total, count) in self._sums.items()}

    def _look(self) -> None:
        for name, pairs in self._pending.items():
            values = torch.stack([value for _, value in pairs]).double().tolist()
            for (step, _), value in zip(pairs, values, strict=True):
                if not math.isfinite(value):
                    raise ValueError(
                        f"loss term {name!r} is {value} in step {step} of epoch {self._epoch}; "
                        "try a smaller learning rate, clip_norm, or precision 32-true"
                    )
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + math.fsum(values), count + len(values)
        self._pending.clear()


class RunLog:
    """Writes every epoch to the log and, where a folder is given, to ``history.csv`` and to TensorBoard if it is installed.

    Args:
        folder: The run's folder, made if it is not there; None to write no file.
        history: Epochs of a run that goes on.
    """

    def __init__(self, folder: Path | None, history: History) -> None:
        self._file: HistoryFile | None = None
        self._board: TensorBoardLogger | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = HistoryFile(folder / "history.csv", history)
            if find_spec("tensorboard") is not None:
                self._board = TensorBoardLogger(folder, name="tensorboard", version="")

    def append(self, epoch: Epoch) -> None:
        """Writes one epoch."""
        values = {name: value for name, value in epoch.as_row().items() if value is not None and name != "epoch"}
        logger.info("epoch %d: %s", epoch.number, describe(epoch))
        if self._file is not None:
            self._file.append(epoch)
        if self._board is not None:
            self._board.log_metrics(values, step=epoch.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._board is not None:
            self._board.finalize("success" if error is None else "failed")


def describe(epoch: Epoch) -> str:
    """Terms and monitored value in one line.

    >>> describe(Epoch(3, 1.5, {"bpr": 0.25, "l2": 0.001}, 0.125))
    'bpr 0.25, l2 0.001, value 0.125'
    """
    parts = [*epoch.terms.items(), *([] if epoch.value is None else [("value", epoch.value)])]
    return ", ".join(f"{name} {value:.4g}" for name, value in parts)
