"""The data sets inside the package."""

from importlib.resources import files
from pathlib import Path

from gmmrec.data.columns import ColumnNames
from gmmrec.data.formats.folder import read_folder
from gmmrec.data.tables import Tables


def bundled_names() -> list[str]:
    """Names that ``load_dataset`` knows without a path.

    >>> bundled_names()
    ['movies-small']
    """
    return sorted(path.name for path in _root().iterdir() if path.is_dir() and not path.name.startswith("_"))


def read_bundled(name: str) -> Tables:
    """A data set inside the package; each is a folder in the package's own layout, with its licence beside it."""
    return read_folder(_root() / name, ColumnNames())


def _root() -> Path:
    return Path(str(files("gmmrec.data"))) / "bundled"
