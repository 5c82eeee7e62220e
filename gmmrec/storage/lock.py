"""One writer per folder."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gmmrec.errors import UsageError
from gmmrec.storage.atomic import write_json

LOCK, HOLDER = ".lock", ".lock-holder.json"
"""Names of the locked file and of the description of its holder; names that begin with a dot are never listed."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing. The system releases it if the process dies.

    Raises:
        UsageError: Another process, which is named, holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{folder} is being written by {holder(folder)}; wait for it, or give another folder") from None
    try:
        write_json(folder / HOLDER, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {LOCK, HOLDER}:
            for name in (HOLDER, LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def holder(folder: Path) -> str:
    """Return a description of the process that holds the lock, such as ``process 12 (since 09:30:12)``."""
    try:
        found: dict[str, Any] = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        since = time.strftime("%H:%M:%S", time.localtime(float(found["since"])))
        place = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
        return f"process {int(found['pid'])}{place} (since {since})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return "another process"


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # of a folder that cannot be written, where nobody writes
        return False
    lock.release()
    return False
