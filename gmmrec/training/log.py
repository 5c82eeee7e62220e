"""Logs of a training: mean loss terms of an epoch, the line per epoch, ``history.csv`` and TensorBoard."""

import logging
import math
from collections.abc import Mapping
from importlib.util import find_spec
from types import TracebackType

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from typing_extensions import Self

from gmmrec.errors import UsageError
from gmmrec.training.files import TrainingFiles
from gmmrec.training.history import Epoch, History, HistoryFile

logger = logging.getLogger(__name__)


class TermLog:
    """Mean loss terms of one epoch, collected without a device synchronization at every step.

    Args:
        epoch: Number of the epoch, for messages.
    """

    _FLUSH_EVERY = 100  # steps; reading the values waits for the device

    def __init__(self, epoch: int) -> None:
        self._epoch, self._step = epoch, 0
        self._pending: dict[str, list[tuple[int, Tensor]]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Record the terms of the next step.

        Raises:
            UsageError: There are no terms, or a term of a recent step is not finite.
        """
        self._step += 1
        if not terms:
            raise UsageError(
                f"the loss of step {self._step} of epoch {self._epoch} has no terms, but the model has weights to train"
            )
        for name, value in terms.items():
            self._pending.setdefault(name, []).append((self._step, value.detach()))
        if self._step % self._FLUSH_EVERY == 0:
            self._flush()

    def means(self) -> dict[str, float]:
        """Mean of each term over the steps that had it.

        Raises:
            UsageError: A term is not finite, or there were no steps.
        """
        if not self._step:
            raise UsageError(f"epoch {self._epoch} has no batches, so there is nothing to learn from")
        self._flush()
        return {name: total / count for name, (total, count) in self._sums.items()}

    def _flush(self) -> None:
        """Read the pending values, check them, and add them to the sums."""
        for name, pairs in self._pending.items():
            values = torch.stack([value for _, value in pairs]).double().tolist()
            for (step, _), value in zip(pairs, values, strict=True):
                if not math.isfinite(value):
                    raise UsageError(
                        f"loss term {name!r} is {value} in step {step} of epoch {self._epoch}; "
                        "try a smaller learning rate, clip_norm, or precision 32-true"
                    )
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + math.fsum(values), count + len(values)
        self._pending.clear()


class RunLog:
    """Write each epoch to the log and, given paths, to ``history.csv`` and to TensorBoard if it is installed.

    Args:
        files: Paths, whose folder is made if it is missing; None to write no files.
        history: Monitor, and the epochs so far of a resumed run.
    """

    def __init__(self, files: TrainingFiles | None, history: History) -> None:
        self._monitor = history.monitor
        self._file: HistoryFile | None = None
        self._board: TensorBoardLogger | None = None
        if files is not None:
            files.history.parent.mkdir(parents=True, exist_ok=True)
            self._file = HistoryFile(files.history, history)
            if find_spec("tensorboard") is not None:
                self._board = TensorBoardLogger(files.board.parent, name=files.board.name, version="")

    def append(self, epoch: Epoch) -> None:
        """Write one epoch."""
        logger.info("epoch %d: %s", epoch.number, describe(epoch, self._monitor))
        if self._file is not None:
            self._file.append(epoch)
        if self._board is not None:
            row = {name: value for name, value in epoch.as_row(self._monitor).items() if value is not None and name != "epoch"}
            self._board.log_metrics(row, step=epoch.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._board is not None:
            self._board.finalize("success" if error is None else "failed")


def describe(epoch: Epoch, monitor: str) -> str:
    """Losses and the validation value on one line.

    >>> describe(Epoch(3, 1.5, {"bpr": 0.25, "l2": 0.001}, 0.125), "recall@20")
    'loss/bpr 0.25, loss/l2 0.001, val/recall@20 0.125'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in epoch.scalars(monitor).items() if value is not None)
