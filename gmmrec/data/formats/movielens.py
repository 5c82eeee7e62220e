"""Reader of MovieLens as it was distributed before it became CSV: MovieLens 1M and 10M (``.dat``), and MovieLens 100K (``u.data``).

The files have no header. ``ratings.dat`` holds ``user::item::rating::time``, ``movies.dat`` ``id::title::genres``, ``users.dat``
``id::gender::age::occupation::zip``; ``u.data`` is the same as ``ratings.dat`` with tabs, and ``u.item`` and ``u.user`` have bars
between their fields. Texts are UTF-8, or else latin-1. The path of a file with ratings reads
them alone, also ``u1.base`` and others.
"""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from gmmrec.data.attributes import attribute_table
from gmmrec.data.columns import ColumnNames, interaction_log
from gmmrec.data.files import find_file, first_line, is_utf8, read_table
from gmmrec.data.tables import Tables
from gmmrec.data.text_form import current_form, read_as
from gmmrec.errors import DataError

RATINGS = ("ratings.dat", "u.data")
RATINGS_FILE = r"(ratings\.dat|u[\dab]?\.(data|base|test))(\.gz)?"
"""Names of files with ratings."""
RATING = r"\s*\d+(::|\t)\d+\1\d(\.\d+)?\1\d+\s*"
"""Line of such a file."""
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""Genres of MovieLens 100K, in the order of their columns."""
TABLES = {
    "movies.dat": ("item", "::", ("item", "title", "genres")),
    "users.dat": ("user", "::", ("user", "gender", "age", "occupation", "zip")),
    "u.item": ("item", "|", ("item", "title", "release_date", "video_release_date", "url", *GENRES)),
    "u.user": ("user", "|", ("user", "age", "gender", "occupation", "zip")),
}
"""Node type, separator and columns of every table of attributes."""


def is_movielens(path: Path) -> bool:
    """Return whether a file holds ratings without a header in MovieLens' form, or a folder has such a file."""
    if path.is_dir():
        found = find_file(path, RATINGS, ("", ".gz"))
        return found is not None and is_movielens(found)
    return bool(re.fullmatch(RATINGS_FILE, path.name)) and bool(re.fullmatch(RATING, first_line(path)))


def read_movielens(path: Path, columns: ColumnNames) -> Tables:
    """Read a data set from a folder or a file of ratings.

    Args:
        path: The folder, or the file.
        columns: Named columns, by number; ``none`` ignores times or ratings.

    Raises:
        DataError: There are no ratings, or a line is malformed.
    """
    folder = path if path.is_dir() else path.parent
    ratings = find_file(path, RATINGS, ("", ".gz")) if path.is_dir() else path
    if ratings is None:
        raise DataError(f"folder {path.name} holds neither {RATINGS[0]} nor {RATINGS[1]}; add one, or leave format out")
    separator = "::" if "::" in first_line(ratings) else "\t"
    usual = ColumnNames("1", "2", "4", "3", "none", "none")
    given = {role: value for role in ("user", "item", "time", "weight") if (value := getattr(columns, role)) is not None}
    with read_as(replace(columns.form, header="none", separator=columns.form.separator or separator, quoted=False)):
        log = interaction_log(read_table(ratings), replace(usual, **given), ratings)
    attributes = {}
    for name, (node_type, mark, names) in TABLES.items() if path.is_dir() else ():
        table = find_file(folder, (name,), ("", ".gz"))
        if table is not None and (name.startswith("u.") == ratings.name.startswith("u.")):
            encoding = current_form().encoding or (None if is_utf8(table) else "latin-1")
            with read_as(replace(current_form(), header="none", separator=mark, encoding=encoding, quoted=False)):
                attributes[node_type] = attribute_table(_attributes(table, mark, names), table, node_type)
    return Tables(ratings.name if path.is_file() else folder.resolve().name, log, attributes)


def _attributes(path: Path, separator: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of attributes; flags of genres become one column of names."""
    frame = read_table(path)
    if frame.shape[1] != len(names):
        raise DataError(
            f"{path.name} has {frame.shape[1]} columns, but must have {len(names)}, separated by {separator!r}: "
            f"{', '.join(names[:4])} …; download it again"
        )
    table: pd.DataFrame = frame.set_axis(list(names), axis=1)
    if names[-1] == GENRES[-1]:
        flags = (table[list(GENRES)] == "1").to_numpy()
        genres = ["|".join(genre for genre, flag in zip(GENRES, row, strict=True) if flag) for row in flags]
        table = table.drop(columns=list(GENRES)).assign(genres=genres)
    return table
