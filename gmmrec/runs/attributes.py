"""Tables of attributes as plain data for JSON: text stays text, numbers stay numbers, missing stays missing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.errors import UsageError

KINDS = ("text", "int64", "float64", "bool", "category", "datetime", "mixed")


def to_plain(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a table as plain data.

    >>> to_plain(pd.DataFrame({"title": pd.Series(["NA", None], dtype=object), "year": [1999, 2007]}))
    {'title': {'kind': 'mixed', 'values': ['NA', None]}, 'year': {'kind': 'int64', 'values': [1999, 2007]}}
    """
    return {str(name): _column(frame[name]) for name in frame.columns}


def from_plain(columns: Mapping[str, Any], rows: int, where: str) -> pd.DataFrame:
    """Return the table of :func:`to_plain`.

    Args:
        columns: Columns by name.
        rows: Number of rows.
        where: Name of the file, for messages.

    Raises:
        UsageError: A column is not as it was written, or has another length.
    """
    read: dict[str, Any] = {}
    for name, column in columns.items():
        if not isinstance(column, dict) or column.get("kind") not in KINDS or not isinstance(column.get("values"), list):
            raise UsageError(f"{where} is damaged: column {name!r} has no kind and values; train the run again")
        values = column["values"]
        if len(values) != rows:
            raise UsageError(f"{where} is damaged: column {name!r} has {len(values)} values, not {rows}; train the run again")
        try:
            read[name] = _series(column["kind"], values)
        except (ValueError, TypeError, OverflowError):
            read[name] = None
        if read[name] is None:
            raise UsageError(f"{where} is damaged: column {name!r} is not {column['kind']}; train the run again")
    frame: pd.DataFrame = pd.DataFrame(read, index=range(rows))
    return frame


def _column(column: "pd.Series[Any]") -> dict[str, Any]:
    values: list[Any] = [_value(value) for value in column.tolist()]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return {"kind": "category", "values": values}
    if pd.api.types.is_datetime64_any_dtype(column):
        return {"kind": "datetime", "values": values}
    for kind in ("int64", "float64", "bool"):
        if column.dtype == kind:
            return {"kind": kind, "values": values}
    return {"kind": "text" if isinstance(column.dtype, pd.StringDtype) else "mixed", "values": values}


def _value(value: Any) -> Any:
    """Return one value as JSON has it; None where it is missing, text for anything that JSON lacks."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) else str(value)


def _series(kind: str, values: list[Any]) -> Any:
    """Return a column, or None if its values are not of this kind."""
    if kind in ("int64", "bool"):
        expected = int if kind == "int64" else bool
        if any(type(value) is not expected for value in values):
            return None
        return pd.Series(values, dtype=kind)
    if kind == "float64":
        return pd.Series([math.nan if value is None else float(value) for value in values], dtype="float64")
    known = str if kind == "text" else str | int | float | bool
    if any(not (value is None or isinstance(value, known)) for value in values):
        return None
    if kind == "datetime":
        return pd.Series(pd.to_datetime(values, format="ISO8601"))
    if kind == "category":
        return pd.Series(pd.Categorical(values))
    return pd.Series(values, dtype=object if kind == "mixed" else "str")
