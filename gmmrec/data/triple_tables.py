"""Parses tables of facts, and tables that align items with entities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.columns import ALIASES, normalize_column_name, raw_ids
from gmmrec.data.errors import DataError, listed, shown
from gmmrec.data.parts import PART_LABELS


def facts_table(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns ``head``, ``relation``, ``tail`` and, where the table has one, ``split``, from any table of facts.

    Raises:
        DataError: A column is missing, a cell is empty, or a part is unknown.
    """
    if frame.empty:
        raise DataError(f"{path.name} holds no facts below its header; export it again")
    plain = {normalize_column_name(column): column for column in reversed(list(frame.columns))}
    found: dict[str, Any] = {}
    for role in ("head", "relation", "tail"):
        column = next((plain[alias] for alias in ALIASES[role] if alias in plain), None)
        if column is None:
            raise DataError(
                f"{path.name} has no column {role!r}; facts are head, relation and tail, its columns are {listed(frame.columns)}"
            )
        found[role] = raw_ids(frame[column], path)
    if "split" in plain:
        parts = frame[plain["split"]].astype(str).str.lower().map(PART_LABELS)
        if parts.isna().any():
            odd = frame[plain["split"]][parts.isna()].iloc[0]
            raise DataError(f"{path.name} puts a fact into part {shown(odd)}; parts are 'train', 'valid' and 'test'")
        found["split"] = parts.astype(np.int8)
    table: pd.DataFrame = pd.DataFrame(found)
    return table


def alignment_table(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns ``item`` and ``entity`` from a table that aligns items with entities.

    Raises:
        DataError: A column is missing, or an item is aligned twice.
    """
    plain = {normalize_column_name(column): column for column in reversed(list(frame.columns))}
    found = {}
    for role in ("item", "entity"):
        column = next((plain[alias] for alias in ALIASES[role] if alias in plain), None)
        if column is None:
            raise DataError(
                f"{path.name} has no column {role!r}; alignment needs item and entity, its columns are {listed(frame.columns)}"
            )
        found[role] = raw_ids(frame[column], path)
    table: pd.DataFrame = pd.DataFrame(found)
    if table["item"].duplicated().any():
        twice = table["item"][table["item"].duplicated()].iloc[0]
        raise DataError(f"{path.name} aligns item {shown(twice)} more than once; keep one entity for each item")
    return table
