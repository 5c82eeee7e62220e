"""Finding and cleaning of table columns: ids, weights, split labels, reviews; :mod:`gmmrec.data.times` parses times."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.files import cell, location
from gmmrec.data.parts import PART_LABELS
from gmmrec.data.times import read_times
from gmmrec.errors import DataError, did_you_mean, quote_names

logger = logging.getLogger(__name__)

ALIASES: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "reviewerid", "uid", "customerid"),
    "item": ("item", "itemid", "movieid", "poi", "poiid", "asin", "productid", "articleid", "iid"),
    "time": ("timestamp", "time", "unixtime", "unixreviewtime", "datetime", "date"),
    "weight": ("rating", "weight", "stars", "overall"),
    "split": ("split", "xlabel"),
    "review": ("review", "reviewtext", "reviewbody", "text"),
    "entity": ("entity", "entityid", "eid"),
    "relation": ("relation", "relationid", "predicate"),
    "head": ("head", "headid", "subject"),
    "tail": ("tail", "tailid", "object"),
}
"""Column names recognized without a setting; the first match wins. Case, ``_`` and ``:type`` are ignored."""


@dataclass(frozen=True)
class ColumnNames:
    """Column names by role; None looks for a usual name, ``"none"`` ignores times, weights, split or reviews."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    split: str | None = None
    review: str | None = None
    time_format: str = "auto"
    """Form of the times; see :func:`gmmrec.data.times.read_times`."""


def normalize_column_name(column: str) -> str:
    """Return a column name in lower case, without type suffix, underscores, hyphens and spaces.

    >>> normalize_column_name("User_ID:token")
    'userid'
    """
    return re.sub(r"[_\s-]", "", str(column).split(":")[0]).lower()


def find_column(frame: pd.DataFrame, role: str, given: str | None, where: str, *, required: bool = True) -> str | None:
    """Return the column of ``frame`` for a role (a key of :data:`ALIASES`), or None if it is absent and not required.

    An optional column given as ``"none"`` is skipped.

    Raises:
        DataError: A required or named column is missing.
    """
    columns = [str(column) for column in frame.columns]
    if given == "none" and not required:
        return None
    if given is not None:
        if given not in columns:
            raise DataError(
                f"{where} has no column {given!r}{did_you_mean(given, columns)}; "
                f"its columns are {quote_names(columns)}, so set {role}_column to one of them"
            )
        return given
    plain = {normalize_column_name(column): column for column in reversed(columns)}
    found = next((plain[alias] for alias in ALIASES[role] if alias in plain), None)
    if found is None and required:
        guess = did_you_mean(role, columns) or next((hint for a in ALIASES[role] if (hint := did_you_mean(a, columns))), "")
        raise DataError(
            f"{where} has no {role} column such as {quote_names(ALIASES[role], 3)}{guess}; "
            f"its columns are {quote_names(columns)}, so rename one or set {role}_column"
        )
    return found


def interaction_log(frame: pd.DataFrame, names: ColumnNames, path: Path | None) -> pd.DataFrame:
    """Return the cleaned columns ``user``, ``item`` and, if present, those of times, ``weight``, ``split`` and ``review``.

    Rows without a rating are dropped if other rows have one: a missing rating does not say that the user liked the item.

    Args:
        frame: Table read from a file (all text) or given by the caller.
        names: Named columns; the others are found by :data:`ALIASES`.
        path: Source of the table, for messages; None for a DataFrame.

    Raises:
        DataError: A column is missing or a cell is invalid; the message names file and line.
    """
    where = path.name if path else "the frame"
    if frame.empty:
        raise DataError(f"{where} holds no interactions below its header; export it again")
    user = str(find_column(frame, "user", names.user, where))
    item = str(find_column(frame, "item", names.item, where))
    log: pd.DataFrame = pd.DataFrame({"user": raw_ids(frame[user], path), "item": raw_ids(frame[item], path)})
    for role, given, clean in (
        ("weight", names.weight, _numbers),
        ("split", names.split, _parts),
        ("review", names.review, _texts),
    ):
        column = find_column(frame, role, given, where, required=False)
        if column is not None:
            log[role] = clean(frame[column], path)
    time = find_column(frame, "time", names.time, where, required=False)
    if time is not None:
        log = log.assign(**read_times(frame[time], path, names.time_format))
    if "weight" in log and log["weight"].isna().any():
        unrated = log["weight"].isna()
        if unrated.all():
            del log["weight"]
            return log
        logger.warning("%s: %d of %d rows have no rating and are dropped", where, unrated.sum(), len(log))
        log = log[~unrated].reset_index(drop=True)
    return log


def raw_ids(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    """Return a column of integer or string ids, none of them missing.

    Raises:
        DataError: An id is missing, or the column holds floats or mixed types.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        more = f" ({int(missing.sum())} such rows in total)" if missing.sum() > 1 else ""
        raise DataError(f"{location(path, row)} has no value in column {column.name!r}{more}; fill it in or delete the row")
    if pd.api.types.is_float_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise DataError(f"column {column.name!r} holds {column.dtype} ids; convert them with .astype('int64') or .astype(str)")
    if column.dtype == object:
        kinds = {type(value).__name__ for value in column.unique()}
        if len(kinds) > 1:
            raise DataError(f"column {column.name!r} mixes ids of type {', '.join(sorted(kinds))}; convert them with .astype(str)")
        if kinds == {"int"}:
            column = column.astype("int64")
    return column.reset_index(drop=True)


def _numbers(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    numbers = pd.to_numeric(column, errors="coerce").reset_index(drop=True)
    wrong = (numbers.isna().to_numpy() & column.notna().to_numpy()) | np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{cell(column, row, path)}, which is not a finite number; fix it")
    with np.errstate(over="ignore"):
        weights: pd.Series[Any] = numbers.astype(np.float32)
    too_large = np.isinf(weights.to_numpy(dtype=np.float32, na_value=np.nan))
    if too_large.any():
        row = int(too_large.argmax())
        raise DataError(f"{cell(column, row, path)}, which is too large for a rating (the limit is 3.4e38); scale the column")
    return weights


def _texts(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    """Return texts as they are; missing ones are allowed."""
    return column.reset_index(drop=True)


def _parts(column: "pd.Series[Any]", path: Path | None) -> "pd.Series[Any]":
    column = column.reset_index(drop=True)
    codes, labels = pd.factorize(column)
    parts = np.array([PART_LABELS.get(str(label).strip().lower(), -1) for label in labels] + [-1], dtype=np.int8)[codes]
    if (parts < 0).any():
        row = int((parts < 0).argmax())
        raise DataError(f"{cell(column, row, path)}; a split label is 'train', 'valid' or 'test'")
    codes_by_row: pd.Series[Any] = pd.Series(parts, dtype="int8")
    return codes_by_row
