"""Processes that are killed while they train and save: at a moment, or before one of their file operations.

Children are forked after the imports, and killed without a chance to clean up.
"""

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPERATIONS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "shutil.copyfile"}
"""Audit events of Python that change files or begin to."""


@dataclass(frozen=True)
class Outcome:
    """End of a child.

    Attributes:
        killed: Whether it was killed, rather than done.
        operations: Number of file operations of a child that was done.
        seconds: Duration.
        error: Traceback of a child that failed by itself.
    """

    killed: bool
    operations: int = 0
    seconds: float = 0.0
    error: str = ""


def run_and_kill(
    work: Callable[[], object], folder: Path, *, before: int | None = None, after: float | None = None, number: int = signal.SIGKILL
) -> Outcome:
    """Do work in a child process, and kill it.

    Args:
        work: Work that writes into the folder.
        folder: Folder whose file operations are counted.
        before: Number of the file operation, from 1, before which the child kills itself.
        after: Seconds after which it is killed.
        number: Signal that kills.
    """
    read, write = os.pipe()
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork of a process with threads
        child = os.fork()
    if child == 0:
        os.close(read)
        _work_and_exit(work, folder, before, write)
    os.close(write)
    if after is not None:
        _kill_after(child, after, number, started)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    if os.WIFSIGNALED(status):
        return Outcome(killed=True, seconds=seconds)
    count, _, error = said.partition("\n")
    return Outcome(killed=False, operations=int(count or 0), seconds=seconds, error=error)


def _kill_after(child: int, seconds: float, number: int, started: float) -> None:
    while (left := started + seconds - time.perf_counter()) > 0:
        time.sleep(min(left, 0.005))
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
    os.kill(child, number)


def _work_and_exit(work: Callable[[], object], folder: Path, before: int | None, pipe: int) -> None:
    inside, count, error = str(folder), 0, ""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and any(isinstance(each, str | os.PathLike) and inside in os.fspath(each) for each in arguments):
            count += 1
            if count == before:
                os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = lambda handle: None  # the system survives, so nothing is lost; it takes most of the time
    sys.addaudithook(hook)
    try:
        work()
    except BaseException:  # noqa: BLE001 (reported to the parent)
        error = traceback.format_exc()
    finally:
        os.write(pipe, f"{count}\n{error}".encode())
        os._exit(0)
