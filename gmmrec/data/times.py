"""Parser of time columns: Unix times of any unit, dates and datetimes, and plain numbers that only give an order."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmmrec.config import check_choice
from gmmrec.data.files import cell, location
from gmmrec.data.interactions import Interactions
from gmmrec.data.time_numbers import (
    NUMBER_FORMS,
    YEAR_1678,
    YEAR_1971,
    YEAR_2100,
    Moments,
    Numbers,
    convert,
    digits,
    exact_numbers,
    recognise,
)
from gmmrec.data.time_texts import TEXT_FORMS, moments_of, read_texts
from gmmrec.errors import DataError

logger = logging.getLogger(__name__)

Times = dict[str, NDArray[np.int64]]
"""Columns of a log: ``time`` (seconds since 1970) and, if some have fractions, ``nanosecond``; or ``order`` alone."""
COLUMNS = ("time", "nanosecond", "order")
MISSING = frozenset({"", "nan", "nat", "none", "null", "na", "n/a", "<na>"})
"""Texts of a missing time, in lower case."""
EARLY_1970 = 48 * 86_400
"""Seconds after 1970-01-01 in which nanoseconds lie that are other units in truth."""


def check_time_format(form: str) -> None:
    """Check the name of a form of times, or a pattern with ``%``.

    Raises:
        UsageError: The form is unknown.
    """
    if "%" not in form:
        check_choice(("auto", *NUMBER_FORMS, *TEXT_FORMS), time_format=form)


def read_times(column: "pd.Series[Any]", path: Path | None, form: str = "auto") -> Times:
    """Read a column of times, with all their digits.

    Args:
        column: Numbers, texts or datetimes.
        path: Source of the table, for messages; None for a DataFrame.
        form: A form of :func:`check_time_format`; ``auto`` recognises ISO dates, Unix times in seconds, milliseconds, microseconds
            and nanoseconds, dates as ``YYYYMMDD``, and small whole numbers as an order without dates.

    Raises:
        DataError: A time is missing or malformed, lies outside 1678 to 2100, or could be read in more than one way.

    >>> read_times(pd.Series(["2021-05-01T10:00:00.25Z", "1970-01-01T00:00:05Z"]), None)
    {'time': array([1619863200,          5]), 'nanosecond': array([250000000,         0])}
    >>> read_times(pd.Series([20190213]), None), read_times(pd.Series([3, 1]), None)
    ({'time': array([1550016000])}, {'order': array([3, 1])})
    """
    column = _plain(column.reset_index(drop=True), path)

    def locate(row: int) -> str:
        return cell(column, row, path)

    if pd.api.types.is_datetime64_any_dtype(column):
        if form != "auto":
            raise DataError(f"column {column.name!r} holds dates already; leave time_format out")
        return _checked(moments_of(column), column, path)
    is_text_form = "%" in form or form in TEXT_FORMS
    if "%" in form and pd.api.types.is_numeric_dtype(column):
        return _checked(digits(exact_numbers(column, locate)[0], form, locate), column, path)
    numbers, is_number = exact_numbers(column, locate)
    if is_text_form or not is_number.all():
        texts = _texts(column)
        is_missing = texts.str.len().to_numpy() <= max(map(len, MISSING))
        is_missing[is_missing] = texts[is_missing].str.lower().isin(MISSING).to_numpy(bool)
        _refuse_missing(is_missing, column, path)
        if is_text_form or (form == "auto" and not is_number.any()):
            return _checked(read_texts(texts, form, locate), column, path)
        rest = "is not a number like the other times" if is_number.any() else f"is no number, but time_format is {form!r}"
        raise DataError(f"{locate(int(is_number.argmin()))}, which {rest}; fix it")
    if form == "auto":
        form = recognise(numbers, locate)
    if form == "order":
        return {"order": _ranks(numbers)}
    return _checked(convert(numbers, form, locate), column, path)


def time_columns(log: pd.DataFrame, name: str) -> dict[str, Tensor]:
    """Return the columns of times of a log that may have been read from several files.

    Raises:
        DataError: Only some of the files have times, or only some have dates.
    """
    found = {column: log[column] for column in COLUMNS if column in log}
    if "nanosecond" in found and "time" in found:
        found["nanosecond"] = found["nanosecond"].fillna(0)
    for column, values in found.items():
        if values.isna().any():
            other = "dates" if "time" in found and "order" in found else "times"
            raise DataError(f"only some files of {name} have {other}; give all of them such a column, or set time_column to 'none'")
        found[column] = values.astype(np.int64)
    return {column: torch.from_numpy(values.to_numpy(copy=True)) for column, values in found.items()}


def written_times(log: Interactions) -> NDArray[Any] | None:
    """Return the times of a log as they are written to a file, so that they are read back alike; None without times."""
    if log.time is None:
        return None if log.order is None else _written_order(log.order.numpy())
    seconds = log.time.numpy()
    fraction = np.zeros_like(seconds) if log.nanosecond is None else log.nanosecond.numpy()
    if len(seconds) and (int(seconds.min()) < YEAR_1971 or _form(seconds) != "s"):
        iso = seconds.astype("datetime64[s]").astype("datetime64[ns]") + fraction.astype("timedelta64[ns]")
        texts: NDArray[Any] = np.datetime_as_string(iso)
        return texts
    if log.nanosecond is None:
        whole: NDArray[np.int64] = seconds
        return whole
    return np.char.add(np.char.add(seconds.astype(str), "."), np.char.zfill(fraction.astype(str), 9))


def _form(whole: NDArray[np.int64]) -> str:
    try:
        return recognise(Numbers(whole, np.zeros_like(whole)), str)
    except DataError:
        return ""


def _written_order(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order as it is, or as ranks from 0 where its numbers would be taken for dates."""
    if not len(order) or _form(order) == "order":
        return order
    ranks: NDArray[np.int64] = np.unique(order, return_inverse=True)[1].astype(np.int64)
    return ranks


def _ranks(numbers: Numbers) -> NDArray[np.int64]:
    """Return whole numbers as they are, and the ranks of fractions."""
    if not numbers.billionths.any():
        return numbers.whole
    order = np.lexsort((numbers.billionths, numbers.whole))
    pairs = np.stack(numbers, axis=1)[order]
    is_new = np.append(False, (pairs[1:] != pairs[:-1]).any(1))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(is_new)
    return ranks


def _plain(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    """Return a column without missing values, of a type of NumPy."""
    _refuse_missing(column.isna().to_numpy(bool), column, path)
    dtype = column.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype) and not isinstance(dtype, pd.ArrowDtype):
        return column
    if isinstance(dtype, pd.CategoricalDtype):
        return _plain(column.astype(dtype.categories.dtype), path)
    if isinstance(dtype, pd.PeriodDtype):
        starts: pd.Series[Any] = column.dt.to_timestamp()
        return starts
    if isinstance(dtype, pd.ArrowDtype):
        return _plain(pd.Series(column.tolist(), name=column.name), path)
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"column {column.name!r} holds {dtype} values, which are no times; name another time_column or 'none'")
    if pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_float_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=getattr(dtype, "numpy_dtype", dtype)), name=column.name)  # type: ignore[arg-type]
    is_object = pd.api.types.is_object_dtype(dtype)
    kind = pd.api.types.infer_dtype(column) if is_object else "string"
    if kind in ("datetime", "date", "datetime64"):
        zones = column.map(lambda value: getattr(value, "tzinfo", None) is not None).to_numpy(bool)
        if zones.any() and not zones.all():
            raise DataError(
                f"{cell(column, int(zones.argmin()), path)}, a time without a zone, while others have one; give all a zone"
            )
        dates: pd.Series[Any] = pd.to_datetime(column, utc=True, errors="coerce")
        if dates.isna().any():
            raise DataError(
                f"{cell(column, int(dates.isna().to_numpy().argmax()), path)}, which is no date of 1678 to 2100; fix it"
            )
        return dates
    return column.map(str) if is_object else column.astype(object)


def _refuse_missing(missing: NDArray[np.bool_], column: "pd.Series[Any]", path: Path | None) -> None:
    if missing.any():
        row = int(missing.argmax())
        raise DataError(f"{location(path, row)} has no value in column {column.name!r}; fill it in or delete the row or the column")


def _texts(column: "pd.Series[Any]") -> "pd.Series[str]":
    texts: pd.Series[str] = column.astype(str).str.strip()
    return texts


def _checked(found: Moments, column: "pd.Series[Any]", path: Path | None) -> Times:
    """Return moments as columns, checked to be plausible."""
    second, nanosecond = found
    for wrong, reason in ((second > YEAR_2100, "lies after the year 2100"), (second < YEAR_1678, "lies before the year 1678")):
        if wrong.any():
            row = int(wrong.argmax())
            day = f" (the date {second[row].astype('datetime64[s]').astype('datetime64[D]')})" if abs(second[row]) < 10**11 else ""
            raise DataError(f"{cell(column, row, path)}{day}, which {reason}; fix it, or set time_format")
    if len(second) > 1 and second.min() >= 0 and second.max() < EARLY_1970:
        logger.warning(
            "%s: all times of column %r lie in the first weeks of 1970, as dates do that were made of seconds, milliseconds or "
            "microseconds taken for nanoseconds; give the unit where they are made, such as pd.to_datetime(…, unit='s')",
            path.name if path else "the frame",
            column.name,
        )
    return {"time": second, "nanosecond": nanosecond} if nanosecond.any() else {"time": second}
