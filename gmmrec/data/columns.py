"""Finding and cleaning of table columns: ids, weights, split labels, reviews; :mod:`gmmrec.data.times` parses times."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.files import cell, separator_of
from gmmrec.data.ids import raw_ids
from gmmrec.data.json_lines import JSON_SUFFIXES
from gmmrec.data.labels import LABELS, are_numbers, as_numbers, is_label, warn_of_unread
from gmmrec.data.parts import PART_LABELS
from gmmrec.data.text_form import PLAIN, TextForm, current_form, is_headless, with_decimal_points
from gmmrec.data.times import read_times
from gmmrec.data.unread import note_columns
from gmmrec.errors import DataError, did_you_mean, literal, quote_names

logger = logging.getLogger(__name__)

ALIASES: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "reviewerid", "uid", "customerid"),
    "item": (
        *("item", "itemid", "movieid", "poi", "poiid", "parentasin", "asin", "productid", "articleid", "iid"),
        *("businessid", "bookid", "artistid", "gmapid", "venueid"),
    ),
    "time": ("timestamp", "time", "unixtime", "unixreviewtime", "datetime", "date"),
    "weight": ("rating", "weight", "stars", "overall", *LABELS),
    "split": ("split", "xlabel"),
    "review": ("review", "reviewtext", "reviewbody", "text"),
    "entity": ("entity", "entityid", "eid"),
    "relation": ("relation", "relationid", "predicate"),
    "head": ("head", "headid", "subject"),
    "tail": ("tail", "tailid", "object"),
}
"""Column names recognized without a setting; the first match wins. Case, ``_`` and ``:type`` are ignored."""


UNSEPARATED = (".parquet", *JSON_SUFFIXES)
"""Suffixes of files without separators."""


@dataclass(frozen=True)
class ColumnNames:
    """Column names by role; None looks for a usual name, ``"none"`` ignores times, weights, split or reviews."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    split: str | None = None
    review: str | None = None
    form: TextForm = PLAIN
    """Form of the table of interactions, if it is a text."""
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
            is_number = given.isdigit() and current_form().header == "first"
            number = ", or header to 'none' to name columns by number" if is_number else ""
            raise DataError(
                f"{where} has no column {given!r}{did_you_mean(given, columns)}; "
                f"its columns are {quote_names(columns)}, so set {role}_column to one of them{number}"
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

    A weight called ``label``, ``click`` or ``liked`` gives a column ``liked`` too, False where it is 0 or less. Rows without a
    rating are dropped if other rows have one: a missing rating does not say that the user liked the item.

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
    if path is not None and not path.name.endswith(UNSEPARATED):
        _check_header(frame, names, where)
    user = str(find_column(frame, "user", names.user, where))
    item = str(find_column(frame, "item", names.item, where))
    log: pd.DataFrame = pd.DataFrame({"user": raw_ids(frame[user], path), "item": raw_ids(frame[item], path)})
    read: dict[str, str | None] = {}
    separator = separator_of(path) if path is not None and path.is_file() and not path.name.endswith(UNSEPARATED) else None
    for role, given, clean in (
        ("weight", names.weight, _numbers),
        ("split", names.split, _parts),
        ("review", names.review, _texts),
    ):
        column = find_column(frame, role, given, where, required=False)
        if role == "weight" and column is not None and is_label(normalize_column_name(column)):
            frame = frame.assign(**{column: as_numbers(frame[column])})
            column = column if given is not None or are_numbers(frame[column]) else None
        if column is not None:
            values = with_decimal_points(frame[column], separator, where) if role == "weight" else frame[column]
            log[role] = clean(values, path)
        if given != "none":
            read[role] = column
    time = find_column(frame, "time", names.time, where, required=False)
    if time is not None:
        log = log.assign(**read_times(with_decimal_points(frame[time], separator, where), path, names.time_format))
    if names.time != "none":
        read["time"] = time
    unread = [str(column) for column in frame if column not in {user, item, *read.values()}]
    note_columns(where, unread)
    warn_of_unread(where, [(column, normalize_column_name(column)) for column in unread], read)
    if "weight" in log and log["weight"].isna().any():
        unrated = log["weight"].isna()
        if unrated.all():
            del log["weight"]
            return log
        logger.warning("%s: %d of %d rows have no rating and are dropped", where, unrated.sum(), len(log))
        log = log[~unrated].reset_index(drop=True)
    if "weight" in log and is_label(normalize_column_name(str(read["weight"]))):
        log["liked"] = log["weight"] > 0
    return log


def _check_header(frame: pd.DataFrame, names: ColumnNames, where: str) -> None:
    """Refuse a text table whose first line is data but read as names, or names but read as data."""
    first = frame.columns if current_form().header == "first" else frame.iloc[0].dropna()
    plain = {normalize_column_name(str(name)) for name in first}
    known = {role for role, aliases in ALIASES.items() if plain & set(aliases)}
    missing = [role for role in ("user", "item") if getattr(names, role) is None]
    if current_form().header == "none":
        if {"user", "item"} <= known:
            raise DataError(f"{where} begins with the column names {quote_names(first)}; leave header='none' out")
        if missing:
            cells = ", ".join(f"{name}: {literal(value)}" for name, value in frame.iloc[0].items())
            raise DataError(
                f"{where} is read without a header, so set {missing[0]}_column to the number of the {missing[0]} column; "
                f"its first line is {cells}"
            )
    elif (lost := [role for role in missing if role not in known]) and (not known or is_headless([str(name) for name in first])):
        raise DataError(
            f"{where} has no {lost[0]} column such as {quote_names(ALIASES[lost[0]], 3)}, and its first line looks like data: "
            f"{quote_names(first)}; add a line of column names, or set header to 'none' and name columns by number, such as "
            "user_column=1, item_column=2, weight_column=3, time_column=4"
        )


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
