"""Times that are numbers: Unix times of any unit, digits of dates, days of a spreadsheet, years, and plain ordinals.

Numbers are read exactly, as whole ones and billionths, so that no fraction of a second is lost. Without a named form, a column has
one if all its numbers lie in the span of that form, and spans do not overlap; what could be two things is refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.errors import DataError

YEAR_2100 = 4_102_444_800
"""Unix seconds of 2100-01-01, after which no time is plausible."""
YEAR_1971 = 31_536_000
YEAR_1678 = -9_214_560_000
"""Unix seconds of 1678-01-01, before which nanoseconds do not fit 64 bits."""
BILLION = 1_000_000_000
DAY = 86_400
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": BILLION}
"""Units of Unix times per second."""
EPOCH_1900, EPOCH_1904 = 25_569, 24_107
"""Day number of 1970-01-01 in spreadsheets that count from 1900, and from 1904."""
DIGITS = {"yyyymmdd": "%Y%m%d", "yyyymmddhhmm": "%Y%m%d%H%M", "yyyymmddhhmmss": "%Y%m%d%H%M%S"}
NUMBER_FORMS = ("s", "ms", "us", "ns", "yyyymmdd", "year", "spreadsheet", "spreadsheet_1904", "order")
"""Forms that can be named."""
Locate = Callable[[int], str]
"""Description of the cell of a row, for messages."""


class Numbers(NamedTuple):
    """Exact numbers ``[E]``: the whole number below each (int64), and the billionths above it (int64)."""

    whole: NDArray[np.int64]
    billionths: NDArray[np.int64]


class Moments(NamedTuple):
    """Moments ``[E]``: seconds since 1970 (int64), and nanoseconds after them (int64)."""

    second: NDArray[np.int64]
    nanosecond: NDArray[np.int64]


class Span(NamedTuple):
    """Range of the numbers of one form, both ends included, and its description."""

    form: str
    low: int
    high: int
    words: str


def spans(count: int) -> list[Span]:
    """Return the disjoint spans in which numbers of a column of this length are recognised."""
    most = max(10_000_000, min(2 * count, 19_000_000))
    return [
        Span("order", 0, most - 1, "plain numbers"),
        Span("yyyymmdd", 19_000_101, 21_001_231, "dates as YYYYMMDD"),
        Span("s", YEAR_1971, YEAR_2100, "Unix seconds"),
        Span("yyyymmddhhmm", 190_001_010_000, 210_012_312_359, "dates as YYYYMMDDhhmm"),
        Span("ms", 300 * BILLION, 1_000 * YEAR_2100, "Unix milliseconds"),
        Span("yyyymmddhhmmss", 19_000_101_000_000, 21_001_231_235_959, "dates as YYYYMMDDhhmmss"),
        Span("us", 300_000 * BILLION, 1_000_000 * YEAR_2100, "Unix microseconds"),
        Span("ns", 700_000_000 * BILLION, BILLION * YEAR_2100, "Unix nanoseconds"),  # above the ticks of .NET
    ]


def exact_numbers(column: "pd.Series[Any]", locate: Locate) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return exact numbers of a column without missing values, and where it holds one.

    Raises:
        DataError: A number is infinite, exceeds 64 bits, or is a float of too few digits to be a Unix time.

    >>> exact_numbers(pd.Series(["7.25", "x"]), str)
    (Numbers(whole=array([7, 0]), billionths=array([250000000,         0])), array([ True, False]))
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy()
    if values.dtype.kind in "iu":
        _refuse_large(values.astype(np.float64), locate)
        return Numbers(values.astype(np.int64), np.zeros(len(values), np.int64)), np.ones(len(values), bool)
    floats = values.astype(np.float64)
    is_number = ~np.isnan(floats)
    _refuse_large(floats, locate)
    narrow = values.dtype.itemsize < 8 and np.abs(floats, where=is_number, out=np.zeros(len(floats))) >= 2**24
    if np.any(narrow):
        raise DataError(
            f"{locate(int(np.argmax(narrow)))}, a {values.dtype} that is rounded to steps of minutes; "
            "read times as float64 or int64 from their source"
        )
    filled = np.where(is_number, floats, 0.0)
    whole = np.floor(filled)
    billionths = np.rint((filled - whole) * BILLION).astype(np.int64)
    found = Numbers(whole.astype(np.int64) + billionths // BILLION, billionths % BILLION)
    if column.dtype.kind not in "fc":  # the digits of a text say more than a float
        _read_digits(column.astype(str).str.strip(), found, is_number)
    return found, is_number


def _read_digits(text: "pd.Series[str]", found: Numbers, is_number: NDArray[np.bool_]) -> None:
    plain = is_number & text.str.fullmatch(r"\+?\d+(\.\d*)?").to_numpy(bool)
    if not plain.any():
        return
    parts = text[plain].str.partition(".")
    found.whole[plain] = parts[0].astype(np.int64)
    found.billionths[plain] = parts[2].str.slice(0, 9).str.ljust(9, "0").astype(np.int64)


def _refuse_large(values: NDArray[np.float64], locate: Locate) -> None:
    wrong = np.abs(values) >= 2.0**63  # also infinity; NaN compares false
    if wrong.any():
        raise DataError(f"{locate(int(wrong.argmax()))}, which is too large for a time in any unit; fix it")


def recognise(numbers: Numbers, locate: Locate) -> str:
    """Return the form of a column of numbers.

    Raises:
        DataError: The numbers have no form, or more than one; the message names a cell.

    >>> recognise(Numbers(np.array([1_600_000_000_123]), np.array([0])), str), recognise(Numbers(np.arange(4), np.zeros(4)), str)
    ('ms', 'order')
    """
    whole = numbers.whole
    middle = int(np.partition(whole, len(whole) // 2)[len(whole) // 2])
    span = next((span for span in spans(len(whole)) if span.low <= middle <= span.high), None)
    if (whole < 0).any():
        raise DataError(
            f"{locate(int((whole < 0).argmax()))}, which is negative; times are seconds since 1970, so fix or drop the row, "
            "or set time_format to 's' if it lies before 1970"
        )
    if span is None:
        raise DataError(
            f"{locate(int((whole == middle).argmax()))}, which is no plausible time: no Unix time of 1971 to 2100 in s, ms, us or "
            "ns, no date and no step; convert the column to dates such as 2018-09-20, or set time_format"
        )
    outside = (whole < span.low) | (whole > span.high)
    if outside.any():
        raise DataError(
            f"{locate(int(outside.argmax()))}, while the column holds {span.words} from {span.low} to {span.high}; fix the row, "
            "or set time_format to the form of the column"
        )
    _refuse_ambiguous(numbers, span.form, locate)
    return span.form


def _refuse_ambiguous(numbers: Numbers, form: str, locate: Locate) -> None:
    low, high = int(numbers.whole.min()), int(numbers.whole.max())
    reading = None
    if form == "s" and low >= 1_900_010_100 and _are_dates(numbers, "%Y%m%d%H"):
        reading = "a date as YYYYMMDDhh or Unix seconds of the future", "'%Y%m%d%H' or 's'"
    elif form == "order" and low >= 30_000 and high < 73_051:
        reading = (
            "the day number of a spreadsheet or a plain number",
            "'spreadsheet' (days since 1900), 'spreadsheet_1904', or 'order' for an order without dates",
        )
    elif form == "order" and numbers.billionths.any():
        reading = "no Unix time, and a fraction is no step", "'order' for an order without dates"
    elif form == "order" and low >= 1_900 and high <= 2_100:
        reading = "a year or a plain number", "'year' (its first of January), or 'order' for an order without dates"
    elif form == "order" and low >= 190_001 and high <= 210_012 and _are_dates(numbers, "%Y%m"):
        reading = "a month as YYYYMM or a plain number", "'%Y%m', or 'order' for an order without dates"
    elif form == "order" and low >= 100_000 and high <= 991_231 and _are_dates(numbers, "%y%m%d"):
        reading = "a date of a two-digit year or a plain number", "'%y%m%d', or 'order' for an order without dates"
    if reading is not None:
        raise DataError(f"{locate(0)}, which is {reading[0]}; set time_format to {reading[1]}")


def convert(numbers: Numbers, form: str, locate: Locate) -> Moments:
    """Return the moments that numbers of one form stand for; every form but ``order``.

    Raises:
        DataError: A number is no date of this form, or a fraction.
    """
    whole, billionths = numbers
    if form in UNITS:
        per_second = UNITS[form]
        return Moments(whole // per_second, whole % per_second * (BILLION // per_second) + billionths // per_second)
    if form in ("spreadsheet", "spreadsheet_1904"):
        _check((whole >= 61) & (whole < 100_000), locate, "is no day number of a spreadsheet; fix it or set another time_format")
        millisecond = (billionths * DAY + 500_000) // 1_000_000  # floats of days are exact to about a millisecond
        days = whole - (EPOCH_1900 if form == "spreadsheet" else EPOCH_1904)
        return Moments(days * DAY + millisecond // 1_000, millisecond % 1_000 * 1_000_000)
    if form == "year":
        _check((whole >= 1_678) & (whole <= 2_100) & (billionths == 0), locate, "is no year; fix it or set another time_format")
        return Moments((whole - 1970).astype("datetime64[Y]").astype("datetime64[s]").astype(np.int64), np.zeros_like(whole))
    return digits(numbers, DIGITS.get(form, form), locate)


def digits(numbers: Numbers, pattern: str, locate: Locate) -> Moments:
    """Return the moments that the digits of whole numbers give by a pattern such as ``%Y%m%d``.

    Raises:
        DataError: A number is not a date of the pattern.
    """
    seconds, valid = _dates(numbers, pattern)
    _check(valid, locate, f"is no date of the form {pattern!r}; fix it or set another time_format")
    return Moments(seconds, np.zeros_like(seconds))


def _dates(numbers: Numbers, pattern: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    codes, distinct = pd.factorize(numbers.whole)
    dates = pd.to_datetime(pd.Series(distinct).astype(str), format=pattern, errors="coerce")
    valid = dates.notna().to_numpy()[codes] & (numbers.billionths == 0)
    seconds: NDArray[np.int64] = dates.fillna(pd.Timestamp(0)).astype("datetime64[s]").astype(np.int64).to_numpy()[codes]
    return seconds, valid


def _are_dates(numbers: Numbers, pattern: str) -> bool:
    return bool(_dates(numbers, pattern)[1].all())


def _check(valid: NDArray[np.bool_], locate: Locate, complaint: str) -> None:
    if not valid.all():
        raise DataError(f"{locate(int(valid.argmin()))}, which {complaint}")
