"""Files and columns that a reader left unread, for :func:`~gmmrec.data.describe.describe` and warnings.

Readers say what they read: :func:`note_file` a file, :func:`note_columns` the columns of a table. Both do nothing unless
:func:`watch_reading` is on.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

DATA_FILE = (
    *(".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson", ".dat", ".data", ".npy", ".npz", ".vec", ".mat", ".pkl"),
    *(".pickle", ".feather", ".h5", ".hdf5", ".inter", ".item", ".user", ".kg", ".link", ".net", ".itememb", ".useremb"),
)
"""Suffixes of files that are likely to hold data, plain or gzipped."""
ABOUT = (
    *("readme", "license", "licence", "copying", "citation", "changelog", "notice", "requirements", "run.json", "dataset_info"),
    "manifest.json",
)
"""Beginnings of the names of files about a data set, in lower case."""
BESIDE = (".md", ".rst", ".py", ".ipynb", ".html", ".pdf", "_feat.json", "_maps.npz", "_pieces.csv.gz")
"""Ends of the names of files that belong to others or hold no data."""
LIMIT = 100
"""Maximum number of files listed."""


@dataclass(frozen=True)
class Unread:
    """Columns and files that no reader took.

    Attributes:
        columns: Names of columns by table.
        files: Names of files, and of folders with a trailing slash, the first hundred.
    """

    columns: Mapping[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """Files and columns noted so far, and the folder of the data set, if it is one."""

    folder: Path | None = None
    files: set[Path] = field(default_factory=set)
    columns: dict[str, list[str]] = field(default_factory=dict)


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


@contextmanager
def watch_reading() -> Iterator[Reading]:
    """Collect what is read inside of this context."""
    reading = Reading()
    token = _reading.set(reading)
    try:
        yield reading
    finally:
        _reading.reset(token)


def note_file(path: Path, *, is_read: bool = True) -> None:
    """Note that a file is read, or that it was only looked into."""
    reading = _reading.get()
    if reading is not None:
        (reading.files.add if is_read else reading.files.discard)(path.resolve())


def note_columns(table: str, columns: Sequence[str]) -> None:
    """Note the columns of a table that are not read."""
    reading = _reading.get()
    if reading is not None and columns:
        reading.columns[table] = list(columns)


def note_folder(folder: Path) -> None:
    """Note the folder of the data set; files opened before, to choose the reader, do not count as read."""
    reading = _reading.get()
    if reading is not None:
        reading.folder, reading.files = folder, set()


def unread_of(reading: Reading) -> Unread:
    """Return what was not read, with a warning of files that are likely to hold data."""
    folder = reading.folder
    if folder is None:
        return Unread(reading.columns)
    root = folder.resolve()
    read = {path.name for path in reading.files if path.parent == root}  # a folder may hold a million pictures: no path of each
    read |= {parent.name for path in reading.files for parent in path.parents if parent.parent == root}
    with os.scandir(root) as entries:
        unread = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name not in read and not _is_about(entry.name))
    files = [name for name, is_folder in unread if not is_folder]
    data = [name for name in files if name.removesuffix(".gz").lower().endswith(DATA_FILE)]
    if data:
        more = f" and {len(data) - 8} more" if len(data) > 8 else ""
        are = "is" if len(data) == 1 else "are"
        logger.warning("%s: %s%s %s not read", root.name, ", ".join(data[:8]), more, are)
    return Unread(reading.columns, [*(f"{name}/" for name, is_folder in unread if is_folder), *files][:LIMIT])


def _is_about(name: str) -> bool:
    name = name.lower()
    return name.startswith((".", "__", *ABOUT)) or name.endswith(BESIDE)
