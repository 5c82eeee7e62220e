"""Data sets bundled with the package."""

from importlib.resources import files
from pathlib import Path

from gmmrec.data.columns import ColumnNames
from gmmrec.data.formats.folder import read_folder
from gmmrec.data.tables import Tables


def bundled_names() -> list[str]:
    """Return the names that ``load_dataset`` accepts instead of a path.

    >>> bundled_names()
    ['movies-small']
    """
    return sorted(path.name for path in _root().iterdir() if path.is_dir() and not path.name.startswith("_"))


def read_bundled(name: str) -> Tables:
    """Read a bundled data set: a folder in the package's own layout, with its licence."""
    return read_folder(_root() / name, ColumnNames())


def _root() -> Path:
    return Path(str(files("gmmrec.data"))) / "bundled"
