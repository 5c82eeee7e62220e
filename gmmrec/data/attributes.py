"""Parses tables of attributes: one row per user, item, entity or relation."""

from pathlib import Path

import pandas as pd

from gmmrec.data.columns import find_column, raw_ids
from gmmrec.data.errors import DataError, shown
from gmmrec.data.files import TABLE_SUFFIXES, find_file, read_table

ATTRIBUTE_FILES = {"item": ("items", "movies", "pois", "products", "item_text"), "user": ("users",)}
"""Usual names of the tables of items and of users, without their endings."""


def read_attribute_files(folder: Path) -> dict[str, pd.DataFrame]:
    """The attribute tables of a folder's items and users, by node type, where there are any."""
    paths = {node_type: find_file(folder, stems, TABLE_SUFFIXES) for node_type, stems in ATTRIBUTE_FILES.items()}
    return {node_type: read_attributes(path, node_type) for node_type, path in paths.items() if path is not None}


def read_attributes(path: Path, node_type: str, given: str | None = None) -> pd.DataFrame:
    """The attributes of one node type from a file, as :func:`attribute_table` makes them."""
    return attribute_table(read_table(path), path, node_type, given)


def attribute_table(frame: pd.DataFrame, path: Path, node_type: str, given: str | None = None) -> pd.DataFrame:
    """A table with a column ``id``; columns that hold only numbers become numbers, and a ``name`` is also the ``title``.

    Raises:
        DataError: There is no id column, or an id is missing or occurs twice.
    """
    given = given if given in frame.columns else None
    key = str(find_column(frame, node_type, given, path.name))
    ids = raw_ids(frame[key], path)
    if ids.duplicated().any():
        row = int(ids.duplicated().to_numpy().argmax())
        raise DataError(f"{path.name} has {node_type} id {shown(ids[row])} more than once; keep one row for each id")
    frame = frame.drop(columns=[key, *(["id"] if key != "id" and "id" in frame else [])])
    title = next((column for column in ("title", "movie_title", "name") if column in frame), None)
    if title is not None and title != "title":
        frame = frame.assign(title=frame[title])
    numbers = {str(column): numbers_where_possible(frame[column]) for column in frame if column != "title"}
    table: pd.DataFrame = frame.assign(**numbers, id=ids)
    return table


def numbers_where_possible(column: "pd.Series[str]") -> "pd.Series[float] | pd.Series[str]":
    """A text column as numbers if all its values are such; codes with a leading zero stay text."""
    if pd.api.types.is_numeric_dtype(column) or column.isna().all() or column.str.match(r"^0\d").any():
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    return column if (numbers.isna() & column.notna()).any() else numbers
