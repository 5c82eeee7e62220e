"""Parser of attribute tables: one row per user, item, entity or relation."""

from pathlib import Path

import pandas as pd

from gmmrec.data.columns import find_column
from gmmrec.data.files import TABLE_SUFFIXES, find_file, read_table
from gmmrec.data.ids import raw_ids
from gmmrec.data.tables import with_source
from gmmrec.errors import DataError, literal

ATTRIBUTE_FILES = {"item": ("items", "movies", "pois", "products", "item_text"), "user": ("users",)}
"""Recognized names of the tables of items and of users, without extensions."""


def read_attribute_files(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the attribute tables of items and users that a folder has, by node type."""
    paths = {node_type: find_file(folder, stems, TABLE_SUFFIXES) for node_type, stems in ATTRIBUTE_FILES.items()}
    return {node_type: read_attributes(path, node_type) for node_type, path in paths.items() if path is not None}


def read_attributes(path: Path, node_type: str, given: str | None = None) -> pd.DataFrame:
    """Read the attributes of one node type from a file; see :func:`attribute_table`."""
    return attribute_table(read_table(path), path, node_type, given)


def attribute_table(frame: pd.DataFrame, path: Path, node_type: str, given: str | None = None) -> pd.DataFrame:
    """Return a table with a column ``id``, numeric columns as numbers, and ``name`` as ``title`` where there is no title.

    Raises:
        DataError: The id column is missing, or an id is missing or repeated.
    """
    given = given if given in frame.columns else None
    key = str(find_column(frame, node_type, given, path.name))
    ids = raw_ids(frame[key], path)
    if ids.duplicated().any():
        row = int(ids.duplicated().to_numpy().argmax())
        raise DataError(f"{path.name} has {node_type} id {literal(ids[row])} more than once; keep one row for each id")
    frame = frame.drop(columns=[key, *(["id"] if key != "id" and "id" in frame else [])])
    title = next((column for column in ("title", "movie_title", "name") if column in frame), None)
    if title is not None and title != "title":
        frame = frame.assign(title=frame[title])
    numbers = {str(column): numbers_where_possible(frame[column]) for column in frame if column != "title"}
    return with_source(frame.assign(**numbers, id=ids), path.name)


def numbers_where_possible(column: "pd.Series[str]") -> "pd.Series[float] | pd.Series[str]":
    """Return a text column as numbers if all its values are numbers; codes with a leading zero stay text."""
    if pd.api.types.infer_dtype(column, skipna=True) != "string" or column.str.match(r"^0\d").any():
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    return column if (numbers.isna() & column.notna()).any() else numbers
