"""Files of JSON objects in a folder, found by their first object: reviews, items and users, as Amazon and Yelp distribute them.

Interactions are in the file whose objects have a user and an item (of several, in the one with ratings), attributes of items in the
one whose objects have an item, a title or name, and no user, attributes of users likewise.
"""

import io
import json
import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.data.attributes import ATTRIBUTE_FILES, attribute_table
from gmmrec.data.columns import ALIASES, ColumnNames, find_column, normalize_column_name
from gmmrec.data.files import find_file, read_beginning, read_table
from gmmrec.data.json_lines import JSON_SUFFIXES, iter_objects
from gmmrec.errors import DataError, quote_names

logger = logging.getLogger(__name__)

TITLES = ("title", "name")


def find_json_tables(folder: Path, columns: ColumnNames, log_stems: Sequence[str] | None) -> dict[str, Path]:
    """Return the JSON files of a folder by what they hold: ``log``, ``item`` and ``user``, as far as there are such files.

    Args:
        folder: The folder.
        columns: Named columns.
        log_stems: Usual names of interactions, which win without a look inside; None if the interactions are elsewhere.

    Raises:
        DataError: Several files may be the one.
    """
    roles_by_path = _roles(folder, columns)
    tables = {}
    named = find_file(folder, log_stems or (), JSON_SUFFIXES)
    found = {path: roles for path, roles in roles_by_path.items() if {"user", "item"} <= roles}
    rated = [path for path, roles in found.items() if "weight" in roles]
    if log_stems is not None and (named or found):
        tables["log"] = named or _only(rated if len(rated) == 1 else list(found), folder, "files of interactions")
    for node_type, other in (("item", "user"), ("user", "item")):
        path = find_file(folder, ATTRIBUTE_FILES[node_type], JSON_SUFFIXES)
        paths = [path for path, roles in roles_by_path.items() if {node_type, "title"} <= roles and other not in roles]
        if path is not None and node_type in roles_by_path.get(path, ()):
            tables[node_type] = path
        elif paths:
            tables[node_type] = _only(paths, folder, f"tables of {node_type}s")
    return tables


def _only(paths: Sequence[Path], folder: Path, what: str) -> Path:
    if len(paths) > 1:
        names = quote_names(path.name for path in paths)
        raise DataError(f"folder {folder.name} holds {len(paths)} {what} ({names}); keep one, or give the path of one file")
    return paths[0]


def read_json_attributes(path: Path, node_type: str, given: str | None) -> pd.DataFrame:
    """Read the attributes of one node type; of objects with the same id, the first is kept.

    Raises:
        DataError: An object is malformed.
    """
    frame = read_table(path)
    key = str(find_column(frame, node_type, given if given in frame else None, path.name))
    repeated = frame[key].duplicated() & frame[key].notna()
    if repeated.any():
        logger.warning("%s: %d objects that repeat a known %s are dropped", path.name, int(repeated.sum()), node_type)
    return attribute_table(frame[~repeated].reset_index(drop=True), path, node_type, key)


def _roles(folder: Path, columns: ColumnNames) -> dict[Path, set[str]]:
    """Return the roles of the keys of the first object of every JSON file of a folder."""
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.name.endswith(JSON_SUFFIXES) and path.is_file()):
        keys = {normalize_column_name(key): key for key in _first_object(path)}
        given = {role: name for role in ("user", "item", "weight") if (name := getattr(columns, role)) not in (None, "none")}
        roles = {role for role in ("user", "item", "weight") if role not in given and set(ALIASES[role]) & set(keys)}
        roles |= {role for role, name in given.items() if name in keys.values()}
        if roles:
            found[path] = roles | ({"title"} if set(TITLES) & set(keys) else set())
    return found


def _first_object(path: Path) -> dict[str, Any]:
    """Return the first object of a file, or an empty one if there is none in its beginning."""
    try:
        text = read_beginning(path)
        if not text.lstrip().startswith("["):
            return next(islice(iter_objects(io.StringIO(text), path.name), 1), {})
        entry, _ = json.JSONDecoder().raw_decode(text.lstrip()[1:].lstrip())
    except (DataError, ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
