"""Parser of time columns: Unix seconds, dates or datetimes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.files import cell, location
from gmmrec.errors import DataError

YEAR_2100 = 4_102_444_800
"""Unix seconds of 2100-01-01; a later time is almost surely in milliseconds."""


def unix_seconds(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    """Return Unix seconds from numbers or dates. Numbers must lie between 1970 and 2100; dates may be earlier.

    Raises:
        DataError: A time is missing, or neither a number in that range nor a date.

    >>> unix_seconds(pd.Series(["1970-01-02", "1970-01-01T00:00:05"]), None).tolist()
    [86400, 5]
    """
    column = column.reset_index(drop=True)
    missing = column.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        raise DataError(f"{location(path, row)} has no value in column {column.name!r}; fill it in or delete the row or the column")
    if pd.api.types.is_datetime64_any_dtype(column):
        return _seconds(column, path)
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().all():
        dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
        if dates.isna().any():
            row = int(dates.isna().to_numpy().argmax())
            raise DataError(f"{cell(column, row, path)}, which is neither Unix seconds nor a date such as 2018-09-20; convert it")
        return _seconds(dates, path)
    for wrong, reason in (
        (numbers.isna(), "is not a number like the other times; fix it"),
        (numbers < 0, "is negative; times are seconds since 1970, so fix or drop the row"),
        (numbers > YEAR_2100, "lies after the year 2100; it looks like milliseconds, so divide the column by 1000"),
    ):
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise DataError(f"{cell(column, row, path)}, which {reason}")
    times: pd.Series[Any] = numbers.astype(np.int64)
    return times


def _seconds(dates: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    seconds: pd.Series[Any] = dates.astype("datetime64[s]").astype("int64").reset_index(drop=True)
    if (seconds > YEAR_2100).any():
        row = int((seconds > YEAR_2100).to_numpy().argmax())
        raise DataError(f"{location(path, row)} has the date {dates.iloc[row].date()}, which lies after the year 2100; fix it")
    return seconds
