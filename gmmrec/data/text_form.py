"""Form of a text table: encoding, separator, header, decimal mark; given by settings, or detected where it is certain."""

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pandas as pd

from gmmrec.errors import DataError, UsageError, literal

Header: TypeAlias = Literal["first", "none"]
"""Line with the names of the columns: the first, or none, in which case columns are named by number, from 1."""
Decimal: TypeAlias = Literal[".", ","]

SPACES = r"\s+"
"""Separator of columns separated by any number of spaces."""
SEPARATORS = ("\t", ",", ";", "|", "::")
NAMED_SEPARATORS = {"tab": "\t", "\\t": "\t", "space": SPACES, "blank": SPACES, " ": SPACES, "comma": ",", "semicolon": ";"}
"""Separators that are hard to type, by name."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
COMMA_NUMBER = r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?"
"""Number with a decimal comma, and maybe points between thousands."""


@dataclass(frozen=True)
class TextForm:
    """Form of text tables; None detects."""

    separator: str | None = None
    """Text between columns; names of :data:`NAMED_SEPARATORS` are replaced."""
    header: Header = "first"
    """Line with the names of the columns."""
    encoding: str | None = None
    """Name of a codec; None reads UTF-8, or what a byte order mark says."""
    decimal: Decimal | None = None
    """Mark before the decimals of a number."""
    quoted: bool = True
    """True if quotes may surround a cell; False if they are ordinary characters."""

    def __post_init__(self) -> None:
        if self.separator is not None:
            object.__setattr__(self, "separator", NAMED_SEPARATORS.get(self.separator, self.separator))
            if not self.separator or any(mark in self.separator for mark in '"\r\n'):
                raise UsageError(
                    f"separator must be text such as ',', '::', 'tab' or 'space', without quotes and line ends, "
                    f"but is {self.separator!r}"
                )
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, ValueError):
                raise UsageError(
                    f"encoding must be the name of a text encoding such as utf-8, latin-1 or utf-16, but is {self.encoding!r}"
                ) from None


PLAIN = TextForm()
_FORM: ContextVar[TextForm] = ContextVar("text_form", default=PLAIN)


def current_form() -> TextForm:
    """Return the form in which text tables are read now; see :func:`read_as`."""
    return _FORM.get()


@contextmanager
def read_as(form: TextForm) -> Iterator[None]:
    """Read text tables in this form within a block, and count their lines for messages, as :func:`decimal.localcontext` does.

    >>> with read_as(TextForm(header="none")):
    ...     current_form().header
    'none'
    >>> current_form().header
    'first'
    """
    token = _FORM.set(form)
    try:
        yield
    finally:
        _FORM.reset(token)


def encoding_of(head: bytes, name: str) -> str:
    """Return the codec of a text by its first bytes, unless the current form names one.

    Raises:
        DataError: The bytes are no text in UTF-8, or in UTF-16 with a byte order mark.
    """
    marked = next((codec for mark, codec in BYTE_ORDER_MARKS if head.startswith(mark)), None)
    given = current_form().encoding
    if given is not None:
        return "utf-8-sig" if marked == "utf-8-sig" and codecs.lookup(given).name == "utf-8" else given
    if marked is None and b"\0" in head:
        raise DataError(
            f"{name} holds zero bytes, so it is no text, or UTF-16 without a byte order mark; save it as UTF-8, "
            "or set encoding to utf-16-le"
        )
    return marked or "utf-8-sig"


def detect_separator(lines: Sequence[str], usual: str) -> str:
    r"""Return the separator of a table by its header and some of its lines.

    Separators inside quotes do not count. The usual one wins if it stands in the header, unless another one divides all lines
    evenly and it does not.

    Args:
        lines: First lines of the table, none of them blank.
        usual: Separator by the name of the file.

    >>> detect_separator(["user;item;rating", "1;2;4,5"], ",")
    ';'
    >>> detect_separator(["user item", "1 2"], ",") == SPACES
    True
    """
    plain = [re.sub(r'"(?:[^"]|"")*"', "_", line) for line in lines]
    if not plain:
        return usual
    possible = [separator for separator in dict.fromkeys((usual, *SEPARATORS)) if separator in plain[0]]
    even = [separator for separator in possible if len({line.count(separator) for line in plain}) == 1]
    if possible:
        return (even or possible)[0]
    counts = {len(line.split()) for line in plain}
    return SPACES if len(counts) == 1 and counts.pop() > 1 else usual


def is_headless(columns: Sequence[str]) -> bool:
    """Return whether the first line of a table looks like data: one of its names is a number.

    >>> is_headless(["A39H", "0205616461", "5.0"]), is_headless(["user", "item"])
    (True, False)
    """
    return any(re.fullmatch(r"[+-]?\d+(?:[.,]\d+)?(?:\.\d+)?", column.strip()) for column in columns)  # pandas numbers repeats


def with_decimal_points(column: "pd.Series[Any]", separator: str | None, where: str) -> "pd.Series[Any]":
    r"""Return a text column of numbers with points instead of decimal commas, if it certainly has these.

    It has if the columns are separated by semicolons, or if a comma is followed by other than three digits: then no comma can
    stand between thousands.

    Args:
        column: Column of a table.
        separator: Separator of its columns; None if unknown.
        where: Name of the table, for messages.

    Raises:
        DataError: Commas may be decimal, or stand between thousands.

    >>> with_decimal_points(pd.Series(["4,5", "3"]), "\t", "x.tsv").tolist()
    ['4.5', '3']
    """
    if pd.api.types.infer_dtype(column, skipna=True) != "string" or not column.str.contains(",", regex=False).any():
        return column
    text, decimal = column.str.strip(), current_form().decimal
    has_comma = text.str.contains(",", regex=False).fillna(False)
    if decimal is None:
        if not text.dropna().str.fullmatch(COMMA_NUMBER).all():
            return column
        grouped = text[has_comma].str.fullmatch(r"[+-]?\d{1,3},\d{3}")
        if grouped.all() and separator != ";":
            raise DataError(
                f"{where} has {literal(text[has_comma].iloc[0])} in column {column.name!r}, whose comma may be a decimal comma or "
                "stand between thousands; set decimal to ',' or to '.'"
            )
        decimal = ","
    numbers: pd.Series[Any]
    if decimal == ",":
        numbers = text.where(~has_comma, text.str.replace(".", "", regex=False)).str.replace(",", ".", regex=False)
    else:
        is_grouped = text.str.fullmatch(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?").fillna(False)
        numbers = text.where(~is_grouped, text.str.replace(",", "", regex=False))
    return numbers
