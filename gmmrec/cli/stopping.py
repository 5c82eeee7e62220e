"""Ctrl-C and SIGTERM: the first finishes the epoch and saves, the second stops at once. Only commands install handlers."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopping:
    """Handler of signals, and the function that a training asks after every epoch."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Return whether a signal has asked to stop."""
        return self.signal is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal during a training; stop at once at any other.

        Raises:
            KeyboardInterrupt: No training is running, or it was asked to stop already.
        """
        from gmmrec.training.trainer import Trainer

        asked, self.signal = self.signal is not None, number
        if asked or not _runs(Trainer.fit.__code__, frame):
            raise KeyboardInterrupt
        print(f"{SIGNALS[signal.Signals(number)]}: finishing the epoch; once more to stop at once", file=sys.stderr, flush=True)

    def report(self, stopped: BaseException, folder: Path) -> int:
        """Say how a run was stopped and how it is resumed, and return the exit code: 130 or 143."""
        from gmmrec.training.trainer import TrainingStopped

        number = signal.SIGINT if self.signal is None else signal.Signals(self.signal)
        if isinstance(stopped, TrainingStopped):
            how = f"stopped by {SIGNALS[number]} after epoch {stopped.epochs}, which is saved"
        else:
            how = f"stopped at once by {SIGNALS[number]}; {last_state(folder)}"
        print(f"{how}; {remedy(folder)}", file=sys.stderr)
        return 128 + number


def last_state(folder: Path) -> str:
    """Return which state of a training was written last."""
    from gmmrec.errors import UsageError
    from gmmrec.runs.status import read_status
    from gmmrec.training.files import STATE_FILE
    from gmmrec.training.resume import epochs_of

    with suppress(UsageError, OSError):
        status = read_status(folder)
        epochs = None if status is None else epochs_of(status.path(folder, STATE_FILE))
        if epochs is not None:
            return f"the last state written is that of epoch {epochs}"
    return "no epoch was saved"


def remedy(folder: Path) -> str:
    """Return how the run in a folder is resumed."""
    from gmmrec.errors import UsageError
    from gmmrec.runs.status import read_status, resume_remedy

    with suppress(UsageError, OSError):
        status = read_status(folder)
        if status is not None and status.identity and status.status != "finished":
            return resume_remedy(folder, status)
    return "nothing was begun, so give the command again"


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Handle signals while a run is made; outside of the main thread, where signals never arrive, do nothing."""
    handler = Stopping()
    before: dict[int, Any] = {}
    with suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            before[number] = signal.signal(number, handler.handle)
    try:
        yield handler
    finally:
        for handled, old in before.items():
            signal.signal(handled, old)


def _runs(code: Any, frame: FrameType | None) -> bool:
    """Return whether a function is on the stack."""
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
