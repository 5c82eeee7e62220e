"""Failures of commands: one sentence for people, a log with the traceback for a fault of gmmrec."""

import errno
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import gmmrec
from gmmrec.errors import UsageError, printable
from gmmrec.safety.names import visible

USAGE, FAULT = 2, 1
"""Exit codes: input that cannot be used, and a fault of gmmrec."""
REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "your quota is used up; free some space, or write to another disk",
    errno.EROFS: "write to another folder",
    errno.EACCES: "change its permissions, or use another file or folder",
    errno.EPERM: "change its permissions, or use another file or folder",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "give another name",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.EIO: "the disk cannot be read or written there; check it",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ESTALE: "the folder was replaced meanwhile; start again",
}
"""Remedy by error number of the system."""


def report(error: BaseException, prog: str, *, debug: bool = False) -> int:
    """Print an exception as one sentence on standard error, and return the exit code of the command.

    Args:
        error: Exception that ended the command.
        prog: Name of the command, for the message.
        debug: Print the traceback first.
    """
    if debug:
        traceback.print_exception(error)
    sentence = described(error)
    if sentence is not None:
        print(visible(f"{prog}: {sentence}"), file=sys.stderr)
        return USAGE
    kind, message = type(error).__name__, visible(" ".join(str(error).split()))
    where = "shown above" if debug else write_log(error)
    print(f"{prog}: failed with {kind}: {message[:200]} (a fault of gmmrec; traceback {where})", file=sys.stderr)
    return FAULT


def described(error: BaseException) -> str | None:
    """Return the sentence for an error of input, of the system or of memory; None for a fault of gmmrec."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = printable(f"{error.filename}: ") if error.filename else ""
        return f"{place}{os.strerror(error.errno)}; {REMEDIES[error.errno]}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "CUDA out of memory" in str(error):
        return "there is not enough memory; use smaller batches (--train.batch_size), fewer dimensions, or a machine with more"
    return None


def write_log(error: BaseException) -> str:
    """Write the traceback to a new file in the user's cache folder, or in the folder of temporary files; return its place."""
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    text = f"gmmrec {gmmrec.__version__}, python {sys.version.split()[0]}\n{' '.join(sys.argv)}\n\n"
    text += "".join(traceback.format_exception(error))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmmrec"
    for folder in (cache, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return f"in {folder / name}"
    return "not written: no folder for logs can be written; repeat the command with --debug"
