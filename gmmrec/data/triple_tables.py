"""Parser of tables of triples, and of tables that align items with entities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.columns import ALIASES, normalize_column_name
from gmmrec.data.ids import raw_ids
from gmmrec.data.parts import PART_LABELS
from gmmrec.data.tables import with_source
from gmmrec.errors import DataError, literal, quote_names


def triple_table(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the columns ``head``, ``relation``, ``tail`` and, if present, ``split`` of a table of triples.

    Raises:
        DataError: A column is missing, a cell is empty, or a part is unknown.
    """
    if frame.empty:
        raise DataError(f"{path.name} holds no triples below its header; export it again")
    plain = {normalize_column_name(column): column for column in reversed(list(frame.columns))}
    columns: dict[str, Any] = {}
    for role in ("head", "relation", "tail"):
        column = next((plain[alias] for alias in ALIASES[role] if alias in plain), None)
        if column is None:
            raise DataError(
                f"{path.name} has no column {role!r}; triples need head, relation and tail, but its columns are "
                f"{quote_names(frame.columns)}"
            )
        columns[role] = raw_ids(frame[column], path)
    if "split" in plain:
        parts = frame[plain["split"]].astype(str).str.lower().map(PART_LABELS)
        if parts.isna().any():
            odd = frame[plain["split"]][parts.isna()].iloc[0]
            raise DataError(f"{path.name} has a triple of part {literal(odd)}; use 'train', 'valid' and 'test'")
        columns["split"] = parts.astype(np.int8)
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def alignment_table(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the columns ``item`` and ``entity`` of a table that aligns items with entities.

    Raises:
        DataError: A column is missing, or an item is aligned twice.
    """
    if frame.empty:
        raise DataError(f"{path.name} aligns no item with an entity; add lines below its header, or remove it")
    plain = {normalize_column_name(column): column for column in reversed(list(frame.columns))}
    columns = {}
    for role in ("item", "entity"):
        column = next((plain[alias] for alias in ALIASES[role] if alias in plain), None)
        if column is None:
            raise DataError(
                f"{path.name} has no column {role!r}; an alignment needs item and entity, but its columns are "
                f"{quote_names(frame.columns)}"
            )
        columns[role] = raw_ids(frame[column], path)
    table: pd.DataFrame = pd.DataFrame(columns)
    if table["item"].duplicated().any():
        repeated = table["item"][table["item"].duplicated()].iloc[0]
        raise DataError(f"{path.name} aligns item {literal(repeated)} more than once; keep one entity for each item")
    return with_source(table, path.name)
