"""Reading of one text, JSON or Parquet file, with errors that name the defect."""

import csv
import importlib.util
import io
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.data.json_lines import JSON_SUFFIXES, read_objects
from gmmrec.data.text_form import SPACES, current_form, detect_separator, encoding_of
from gmmrec.data.unread import note_file
from gmmrec.errors import DataError, literal
from gmmrec.safety.parquet import read_parquet
from gmmrec.safety.sizes import check_file
from gmmrec.safety.streams import open_bytes, open_text

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
MOST_COLUMNS = 100_000
"""Columns of the widest table that is read; pandas takes about a kilobyte for an empty one."""
TEXT_SUFFIXES = tuple(f".{name}{gz}" for name in ("txt", "dat", "data") for gz in ("", ".gz"))
"""Further names of single text tables."""
COLUMN_MARK = "\x1f"
"""Replacement of separators of several characters, which pandas would read slowly."""


def read_table(path: Path, *, separator: str | None = None, quoted: bool = True) -> pd.DataFrame:
    """Read one table. Columns of text files stay text, so that ids such as ``007`` survive; empty cells are missing.

    The separator is the comma (``.csv``) or the tab, unless the header holds only another one. With ``quoted=False``, quotes are
    ordinary characters; in tab-separated files they are where a cell would otherwise span lines that are complete on their own.
    JSON objects are read with one column per key. :func:`~gmmrec.data.text_form.read_as` sets the form of the text.

    Raises:
        DataError: The file is empty, truncated or of another type than its name says, or a line has too many fields.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.name.endswith(JSON_SUFFIXES):
        with describe_read_errors(path), _open(path) as file:
            return read_objects(file, path.name)
    form = current_form()
    with describe_read_errors(path), _open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        separator = separator or separator_of(path)
        source: io.TextIOBase = file
        if len(separator) > 1 and separator != SPACES:
            source, separator, quoted = _marked(file, separator, path), COLUMN_MARK, False
        frame = pd.read_csv(
            source,
            sep=separator,
            header=None if form.header == "none" else 0,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
            quoting=csv.QUOTE_MINIMAL if quoted and are_quotes(path, separator) else csv.QUOTE_NONE,
        )
    return frame.set_axis([str(number + 1) for number in range(frame.shape[1])], axis=1) if form.header == "none" else frame


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


def is_utf8(path: Path) -> bool:
    """Return whether a text is UTF-8."""
    try:
        with _open(path) as file:
            while file.read(2**20):
                pass
    except UnicodeDecodeError:
        return False
    return True


def read_beginning(path: Path, length: int = 2**20) -> str:
    """Return the first characters of a text file.

    Raises:
        DataError: The file is empty, truncated or of another type than its name says.
    """
    with describe_read_errors(path), _open(path) as file:
        return file.read(length)


def line_of(path: Path, row: int) -> int:
    """Return the line number at which row ``row`` (0 is the first below the header) begins; quoted fields may span lines."""
    if path.name.endswith(JSON_SUFFIXES):
        with _open(path) as file:
            return next(islice((number for number, line in enumerate(file, 1) if line.strip()), row, None), row + 1)
    form, separator = current_form(), separator_of(path)
    num_read, begins = (0 if form.header == "none" else -1), 1
    mark = separator if len(separator) == 1 else COLUMN_MARK
    is_quoted = are_quotes(path, separator)
    with _open(path) as file:
        records = csv.reader(file, delimiter=mark, quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE)
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
    if path.name.endswith(JSON_SUFFIXES) and first_line(path).lstrip().startswith("["):
        return f"{path.name} entry {row + 1}"
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
    note_file(path)
    try:
        _check_beginning(path)
        yield
    except (EOFError, zlib.error):
        raise DataError(f"{path.name} is truncated: its gzip data ends too early; copy or download it again") from None
    except UnicodeError as error:
        codec = current_form().encoding or "UTF-8"
        where = f"byte {error.start}: {error.reason}" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
        raise DataError(f"{path.name} is not {codec} text ({where}); save it as UTF-8, or set encoding, such as latin-1") from None
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
            f"{path.name} line {line} has {actual} fields, but the {'first line' if current_form().header == 'none' else 'header'} "
            f"has {expected}; quote fields that hold the separator"
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
    return open_text(path, _encoding(path), newline="")


def _encoding(path: Path) -> str:
    with open_bytes(path) as file:
        return encoding_of(file.read(256), path.name)


def separator_of(path: Path) -> str:
    """Return the separator of a text table: that of the current form, else by its name, header and first lines.

    Raises:
        DataError: The file begins with a line ``sep=…`` for spreadsheets.
    """
    given = current_form().separator
    if given is not None:
        return given
    with _open(path) as file:
        lines = list(islice((line.rstrip("\r\n") for line in file if line.strip()), 20))
    if lines and lines[0].strip('"').startswith("sep="):
        raise DataError(f"{path.name} begins with {lines[0]!r}, a hint for spreadsheets; delete this line")
    found = detect_separator(lines, "," if ".csv" in path.suffixes else "\t")
    if lines and lines[0].count(found) >= MOST_COLUMNS:
        raise DataError(f"{path.name} has more than {MOST_COLUMNS:,} columns in its first line; give it a line per row")
    return found


def are_quotes(path: Path, separator: str) -> bool:
    """Return whether quotes may surround cells of a table.

    In tab-separated files they are ordinary characters if every line has as many tabs as the first, and some an odd number of
    quotes: read as quotes, they would join lines.
    """
    if not current_form().quoted:
        return False
    if separator != "\t":
        return True
    with _open(path) as file:
        lines = (line for line in file if line.strip())
        tabs, is_odd = next(lines, "").count("\t"), False
        for line in lines:
            if line.count("\t") != tabs:
                return True
            is_odd = is_odd or line.count('"') % 2 == 1
    return not is_odd


def _marked(file: io.TextIOWrapper, separator: str, path: Path) -> io.StringIO:
    """Return a text with one character in place of every separator."""
    text = file.read()
    if COLUMN_MARK in text:
        raise DataError(f"{path.name} holds control characters (unit separators), so it is no text table; export it again")
    return io.StringIO(text.replace(separator, COLUMN_MARK))


def _read_parquet(path: Path) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{path.name} needs pyarrow, which is not installed; run: pip install 'gmmrec[parquet]'")
    import pyarrow

    note_file(path)
    try:
        return read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file: {error}; export it again") from None
