"""Reading of one text or Parquet file, with errors that name the defect."""

import csv
import importlib.util
import io
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.errors import DataError, literal
from gmmrec.safety.parquet import read_parquet
from gmmrec.safety.sizes import check_file
from gmmrec.safety.streams import open_text

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
MOST_COLUMNS = 100_000
"""Columns of the widest table that is read; pandas takes about a kilobyte for an empty one."""


def read_table(path: Path, *, separator: str | None = None, quoted: bool = True) -> pd.DataFrame:
    """Read one table. Columns of text files stay text, so that ids such as ``007`` survive; empty cells are missing.

    The separator is the comma (``.csv``) or the tab, unless the header holds only another one. With ``quoted=False``, quotes are
    ordinary characters.

    Raises:
        DataError: The file is empty, truncated or of another type than its name says, or a line has too many fields.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    with describe_read_errors(path), _open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            file,
            sep=separator or _separator(path),
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )


def read_text(path: Path) -> str:
    """Return the whole text of a plain or gzipped file.

    Raises:
        DataError: The file is empty, truncated or of another type than its name says.
    """
    with describe_read_errors(path), _open(path) as file:
        text = file.read()
    if not text.strip():
        raise DataError(f"{path.name} is empty, but must hold interactions; export it again")
    return text


def find_file(folder: Path, stems: Sequence[str], suffixes: Sequence[str]) -> Path | None:
    """Return the first file of a folder with one of these names, or None."""
    return next((path for stem in stems for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()), None)


def first_line(path: Path) -> str:
    """Return the first line of a text file.

    Raises:
        DataError: The file is empty, truncated or of another type than its name says.
    """
    with describe_read_errors(path), _open(path) as file:
        return file.readline()


def line_of(path: Path, row: int) -> int:
    """Return the line number at which row ``row`` (0 is the first below the header) begins; quoted fields may span lines."""
    num_read, begins = -1, 1
    with _open(path) as file:
        records = csv.reader(file, delimiter=_separator(path))
        for record in records:
            num_read += bool(record)  # blank lines are not rows
            if record and num_read == row + 1:
                break
            begins = records.line_num + 1
    return begins


def location(path: Path | None, row: int) -> str:
    """Return file and line of row ``row`` of a table, for messages; a path without a file is the name of a DataFrame."""
    if path is None or path.suffix == ".parquet" or not path.is_file():
        return f"{path.name if path else 'the frame'} row {row}"
    try:
        return f"{path.name} line {line_of(path, row)}"
    except csv.Error:  # of fields beyond the limit of the module, which pandas reads
        return f"{path.name} row {row}"


def cell(column: "pd.Series[Any]", row: int, path: Path | None) -> str:
    """Return file, line, value and column of one cell, for messages."""
    return f"{location(path, row)} has {literal(column.iloc[row])} in column {column.name!r}"


@contextmanager
def describe_read_errors(path: Path) -> Iterator[None]:
    """Convert errors of the standard library and pandas on a broken text file to :class:`DataError`."""
    try:
        _check_beginning(path)
        yield
    except (EOFError, zlib.error):
        raise DataError(f"{path.name} is truncated: its gzip data ends too early; copy or download it again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path.name} is empty, but must begin with a line of column names; export it again") from None
    except pd.errors.ParserWarning:
        raise DataError(f"the lines of {path.name} have more fields than its header; give every column a name") from None
    except pd.errors.ParserError as error:
        match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if match is None:
            raise DataError(f"{path.name} is not a table: {error}; fix it or export it again") from None
        expected, line, actual = match.groups()
        raise DataError(
            f"{path.name} line {line} has {actual} fields, but the header has {expected}; quote fields that hold the separator"
        ) from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {error}; copy or download it again") from None


def _check_beginning(path: Path) -> None:
    """Refuse files whose first bytes contradict their name, and pipes."""
    check_file(path)
    with path.open("rb") as file:
        head = file.read(256)
    is_gzip = head.startswith(b"\x1f\x8b")
    if not head:
        raise DataError(f"{path.name} is empty (0 bytes); copy or download it again")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise DataError(f"{path.name} holds an HTML page, not data; download the file itself instead of the page about it")
    if path.suffix == ".gz" and not is_gzip:
        raise DataError(f"{path.name} is named .gz but is not gzip data; rename it to {path.stem} or compress it")
    if path.suffix != ".gz" and is_gzip:
        raise DataError(f"{path.name} is gzip data; rename it to {path.name}.gz")


def _open(path: Path) -> io.TextIOWrapper:
    return open_text(path, "utf-8-sig", newline="")


def _separator(path: Path) -> str:
    usual = "," if ".csv" in path.suffixes else "\t"
    with _open(path) as file:
        header = file.readline()
    found = usual if usual in header else next((other for other in ("\t", ",", ";", "|") if other in header), usual)
    if header.count(found) >= MOST_COLUMNS:
        raise DataError(f"{path.name} has more than {MOST_COLUMNS:,} columns in its first line; give it a line per row")
    return found


def _read_parquet(path: Path) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{path.name} needs pyarrow, which is not installed; run: pip install 'gmmrec[parquet]'")
    import pyarrow

    try:
        return read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file: {error}; export it again") from None
