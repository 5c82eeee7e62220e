"""Times that are texts: ISO dates with fractions and zones, dates of named patterns, days before months or after them."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.time_numbers import BILLION, Locate, Moments
from gmmrec.errors import DataError

ISO = r"\d{4}([-/.]\d{1,2}([-/.]\d{1,2})?|\d{4})([T ]\d.*)?"
"""Texts taken for ISO dates; ``now`` and ``today`` are none."""
ZONED = r".*[T ]\d.*(?:Z|[+-]\d\d:?\d\d|[+-]\d\d)"
NUMERIC_DATE = r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?:[T ]+(\d.*))?"
SHORT_YEAR = r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2}(?:[T ].*)?"
SHAPE = str.maketrans("123456789", "000000000")
TEXT_FORMS = ("day_first", "month_first")
"""Forms that can be named."""


def read_texts(texts: "pd.Series[str]", form: str, locate: Locate) -> Moments:
    """Return the moments of texts ``[E]``; a zone is converted to UTC, times without one are taken as they are.

    Args:
        texts: Stripped texts, none missing.
        form: ``auto``, ``day_first``, ``month_first``, or a pattern of ``strptime`` such as ``%d.%m.%Y %H:%M``.
        locate: Description of the cell of a row, for messages.

    Raises:
        DataError: A text is no date, only some have a zone, or days and months cannot be told apart.
    """
    codes, distinct = pd.factorize(texts)
    firsts = np.full(len(distinct), len(codes))
    np.minimum.at(firsts, codes, np.arange(len(codes)))
    values = pd.Series(distinct, dtype=object).astype(str)

    def at(position: int) -> str:
        return locate(int(firsts[position]))

    dates = _patterned(values, form, at) if "%" in form else _numeric(values, form, at) if form in TEXT_FORMS else _auto(values, at)
    found = moments_of(dates)
    return Moments(found.second[codes], found.nanosecond[codes])


def moments_of(dates: "pd.Series[Any]") -> Moments:
    """Return the moments of a datetime column of any resolution and zone, exactly.

    >>> moments_of(pd.Series(pd.to_datetime(["1969-12-31T23:59:59.5+00:00"])))
    Moments(second=array([-1]), nanosecond=array([500000000]))
    """
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    values = dates.to_numpy()
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": BILLION}[np.datetime_data(values.dtype)[0]]
    ticks = values.astype(np.int64)
    return Moments(ticks // per_second, ticks % per_second * (BILLION // per_second))


def _auto(values: "pd.Series[str]", at: Locate) -> "pd.Series[Any]":
    shapes = _Shapes(values)
    if shapes.match(r".*(?:UTC|GMT)").any():
        values = values.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
        shapes = _Shapes(values)
    is_iso = shapes.match(ISO)
    if not is_iso.any() and shapes.match(NUMERIC_DATE).all():
        return _numeric(values, "auto", at)
    _refuse_half_zoned(shapes, at)
    dates: pd.Series[Any] = pd.to_datetime(
        values if is_iso.all() else values.where(is_iso), errors="coerce", utc=True, format="ISO8601"
    )
    _refuse_invalid(values, dates, at, "neither a Unix time nor a date such as 2018-09-20")
    return dates


def _patterned(values: "pd.Series[str]", form: str, at: Locate) -> "pd.Series[Any]":
    try:
        dates = pd.to_datetime(values, format=form, errors="coerce", utc=True)
    except ValueError as error:
        raise DataError(f"time_format {form!r} is no pattern of dates: {' '.join(str(error).split())}; fix it") from None
    _refuse_invalid(values, dates, at, f"no date of the form {form!r}")
    return dates


def _numeric(values: "pd.Series[str]", form: str, at: Locate) -> "pd.Series[Any]":
    """Read dates such as 13/02/2019; one number above 12 decides the order of day and month of the column."""
    parts = values.str.extract(f"^{NUMERIC_DATE}$")
    _refuse_invalid(values, parts[2], at, "no date such as 13/02/2019")
    first, second = (parts[column].astype(np.int64).to_numpy() for column in (0, 1))
    if form == "auto":
        if (first > 12).any() == (second > 12).any():
            position = int(((first > 12) | (second > 12)).argmax())
            why = "while other rows have the month first" if (first > 12).any() else "which may have the day or the month first"
            raise DataError(f"{at(position)}, {why}; set time_format to 'day_first' or 'month_first', or write 2018-09-20")
        form = "day_first" if (first > 12).any() else "month_first"
    day, month = (0, 1) if form == "day_first" else (1, 0)
    iso = parts[2] + "-" + parts[month].str.zfill(2) + "-" + parts[day].str.zfill(2)
    iso = iso.where(parts[3].isna(), iso + "T" + parts[3].fillna(""))
    _refuse_half_zoned(_Shapes(iso), at)
    dates: pd.Series[Any] = pd.to_datetime(iso, errors="coerce", utc=True, format="ISO8601")
    _refuse_invalid(values, dates, at, f"no date with the {form.split('_')[0]} first")
    return dates


def _refuse_half_zoned(shapes: "_Shapes", at: Locate) -> None:
    zoned = shapes.match(ZONED)
    if zoned.any() and not zoned.all():
        raise DataError(
            f"{at(int(zoned.argmin()))}, a time without a zone, while others have one; write a zone in every row or in none"
        )


class _Shapes:
    """Texts with all digits alike, so that a pattern is matched once for all texts of one shape."""

    def __init__(self, values: "pd.Series[str]") -> None:
        self.codes, shapes = pd.factorize(values.map(lambda text: text.translate(SHAPE)))
        self.shapes = pd.Series(shapes, dtype=object)

    def match(self, pattern: str) -> NDArray[np.bool_]:
        """Return which texts match a pattern that tells no digit from another."""
        matches: NDArray[np.bool_] = self.shapes.str.fullmatch(pattern).to_numpy(bool)[self.codes]
        return matches


def _refuse_invalid(values: "pd.Series[str]", dates: "pd.Series[Any]", at: Locate, complaint: str) -> None:
    wrong: NDArray[np.bool_] = dates.isna().to_numpy()
    if not wrong.any():
        return
    position = int(wrong.argmax())
    if pd.Series(values[position]).str.fullmatch(SHORT_YEAR).all():
        raise DataError(
            f"{at(position)}, a date with two digits of the year; write all four, or set time_format to a pattern like '%d/%m/%y'"
        )
    raise DataError(f"{at(position)}, which is {complaint}; convert it, or set time_format to a pattern such as '%d.%m.%Y %H:%M'")
