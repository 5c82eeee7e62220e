"""Confinement of one case: its own folder, a time limit, no warnings, and no file written elsewhere."""

import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""Limit for one case; the slowest take a second on a free core."""
WRITING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree"}
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
IGNORED = (
    ("Sparse CSR tensor support is in beta state", UserWarning),
    (".*torch.jit.*", DeprecationWarning),
)
"""Warnings of libraries that say nothing about the input."""


class TooSlow(BaseException):
    """The time limit passed; no ``except Exception`` catches it."""


class Outside(BaseException):
    """A file was about to be written outside the allowed folders."""


class _Watch:
    """Watcher of the files that Python opens for writing; one for the process, since an audit hook stays."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.thread = 0
        self.installed = False

    def install(self) -> None:
        if not self.installed:
            sys.addaudithook(self.hook)
            self.installed = True

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None or threading.get_ident() != self.thread:
            return
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not isinstance(flags, int) or not flags & WRITE_FLAGS:
                return
            self.check(event, path)
        elif event in WRITING:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir") else -1  # open folder that the path is relative to
            for path in arguments[: 2 if event == "os.rename" else 1]:
                is_relative = isinstance(folder, int) and folder >= 0
                self.check(event, f"/proc/self/fd/{folder}/{os.fsdecode(path)}" if is_relative else path)

    def check(self, event: str, path: Any) -> None:
        if self.allowed is None or not isinstance(path, str | bytes | os.PathLike):
            return
        allowed, self.allowed = self.allowed, None  # resolving a path opens nothing, but may raise events
        try:
            found = os.path.realpath(os.fsdecode(path))
            if found != os.devnull and not any(found == root or found.startswith(f"{root}{os.sep}") for root in allowed):
                raise Outside(f"{event} {found}")
        except ValueError:  # a null byte: the call fails by itself
            return
        finally:
            self.allowed = allowed


_watch = _Watch()


@contextlib.contextmanager
def confined(folder: Path, writable: tuple[str, ...], seconds: float = SECONDS) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Run a case in a folder, with captured output.

    Args:
        folder: Working folder.
        writable: Folders below it that may be written, ``"."`` for itself.
        seconds: Time limit.

    Yields:
        Standard output and standard error.

    Raises:
        TooSlow: The limit passed.
        Outside: A file elsewhere was to be written.
    """

    def stop(signum: int, frame: Any) -> None:
        raise TooSlow(f"not done after {seconds:g} s")

    root, before = os.path.realpath(folder), os.getcwd()
    home = Path(root).parent / "home"
    home.mkdir(exist_ok=True)
    environment = {name: os.environ.get(name) for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_OFFLINE")}
    os.environ.update(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), HF_HUB_OFFLINE="1")
    out, err = io.StringIO(), io.StringIO()
    old = signal.signal(signal.SIGALRM, stop)
    root_logger = logging.getLogger()
    handlers, level = root_logger.handlers[:], root_logger.level
    _watch.install()
    try:
        os.chdir(root)
        root_logger.handlers = [logging.StreamHandler(err)]
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch_geometric.*")
            for message, category in IGNORED:
                warnings.filterwarnings("ignore", message, category)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            _watch.thread = threading.get_ident()
            _watch.allowed = (*(os.path.normpath(os.path.join(root, name)) for name in writable), str(home))
            yield out, err
    finally:
        _watch.allowed = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.chdir(before)
        root_logger.handlers = handlers
        root_logger.setLevel(level)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def emptied(root: Path) -> Iterator[Path]:
    """Yield a new folder ``case`` below ``root``, and remove it afterwards.

    Raises:
        Outside: Something else below ``root`` was made meanwhile, also by libraries that open files without Python.
    """
    folder = root / "case"
    folder.mkdir()
    try:
        yield folder
        others = sorted(entry.name for entry in os.scandir(root) if entry.name not in ("case", "home"))
        if others:
            raise Outside(f"{others[0]} was made beside the folder of the case")
    finally:
        for entry in os.scandir(root):
            if entry.is_dir(follow_symlinks=False) and entry.name != "home":
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != "home":
                os.unlink(entry.path)
