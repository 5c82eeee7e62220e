"""Columns that say whether a user liked an item, and columns of a log that mean something and are not read."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

LABELS = ("label", "click", "clicked", "isclick", "like", "liked", "islike")
"""Names of such columns, in lower case and without signs: a value of 0 or less is no like."""
EVENTS = ("event", "eventtype", "behavior", "behaviour", "behaviortype", "action", "actiontype", "interactiontype", "feedback")
"""Names of columns that say what happened, such as a view or a purchase."""
NEGATIVES = ("neg", "negative", "negitem", "negitemid", "purchase", "purchased", "ispurchase", "isbuy", "longview")
HISTORIES = ("history", "hist", "sequence", "clickhistory", "itemseq", "histitem", "userhistory")
"""Names of columns of items that came before, besides those that end in ``_list``."""
TRUTHS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def is_label(name: str) -> bool:
    """Return whether a normalized column name says that the column holds labels.

    >>> is_label("label"), is_label("rating")
    (True, False)
    """
    return name in LABELS


def as_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of truth values, such as ``True`` or ``no``, as ones and zeros; others stay as they are.

    >>> as_numbers(pd.Series(["True", "False", None])).tolist()
    [1.0, 0.0, nan]
    """
    if pd.api.types.is_numeric_dtype(column):
        return column
    known = column.map(lambda value: TRUTHS.get(str(value).strip().lower()), na_action="ignore")
    return column if known[column.notna()].isna().any() else known.astype(np.float64)


def are_numbers(column: "pd.Series[Any]") -> bool:
    """Return whether all values of a column are numbers."""
    return not (pd.to_numeric(column, errors="coerce").isna() & column.notna()).any()


def warn_of_unread(where: str, unread: Iterable[tuple[str, str]], read: Mapping[str, str | None]) -> None:
    """Warn of unread columns that change what an interaction means.

    Args:
        where: Name of the table.
        unread: Unread columns, each with its normalized name.
        read: Column read for every role, or None; a role with the setting ``none`` is absent.
    """
    for column, name in unread:
        if name in LABELS and "weight" in read:
            instead = f", as {read['weight']!r} is" if read["weight"] is not None else ", as it holds no numbers"
            reason = f"says what was liked, but is not read{instead}; set weight_column to the one that counts"
        elif name in EVENTS or name in NEGATIVES:
            reason = "is not read, so every row counts as an interaction of one kind; drop the rows that should not count"
        elif name in HISTORIES or name.endswith(("list", "seq")):
            reason = "is not read, so the items in it count only where they have rows of their own"
        else:
            continue
        logger.warning("%s: column %r %s", where, column, reason)
