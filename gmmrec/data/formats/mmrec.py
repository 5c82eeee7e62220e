"""Reader of MMRec's layout: ``NAME.inter``, ``image_feat.npy`` and ``text_feat.npy``, whose row ``i`` belongs to item ``i``.

``NAME.inter`` is separated by tabs, or by another mark that its header shows: userID, itemID, rating, timestamp, x_label (0 train,
1 validation, 2 test). Raw ids are those of ``u_id_mapping.csv`` and ``i_id_mapping.csv``, if present, else the numbers themselves.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.arrays import read_features
from gmmrec.data.attributes import read_attribute_files
from gmmrec.data.columns import ColumnNames, interaction_log
from gmmrec.data.files import read_table
from gmmrec.data.formats.atomic import interaction_files
from gmmrec.data.tables import Tables
from gmmrec.errors import DataError, literal, quote_names

MAPPINGS = {"user": ("u_id_mapping.csv", "userID"), "item": ("i_id_mapping.csv", "itemID")}


def read_mmrec(folder: Path, columns: ColumnNames) -> Tables:
    """Read a data set from a folder in MMRec's layout.

    Raises:
        DataError: There is not exactly one ``.inter`` file, or a cell or an array is invalid.
    """
    files = interaction_files(folder)
    if len(files) != 1:
        raise DataError(
            f"folder {folder.name} holds {len(files)} .inter files ({quote_names(p.name for p in files)}); keep one per folder"
        )
    log = interaction_log(read_table(files[0]), columns, files[0])
    features = read_features(folder, {})
    for node_type, (name, number_column) in MAPPINGS.items():
        if not (folder / name).is_file():
            continue
        raw = _mapping(folder / name, number_column)
        log[node_type] = _translated(log[node_type].astype(str), raw, files[0].name, name)
        features = [
            replace(table, ids=_translated(pd.Series(np.arange(len(table.values))).astype(str), raw, table.source, name))
            if table.node_type == node_type and table.ids is None
            else table
            for table in features
        ]
    return Tables(files[0].name.split(".inter")[0], log, read_attribute_files(folder), features)


def _mapping(path: Path, number_column: str) -> "pd.Series[str]":
    """Return raw ids by number (as text)."""
    frame = read_table(path)
    if number_column not in frame or frame.shape[1] != 2:
        raise DataError(
            f"{path.name} has the columns {quote_names(frame.columns)}, but must have two, one of them {number_column!r}"
        )
    (raw,) = (column for column in frame if column != number_column)
    for column in (number_column, raw):
        if frame[column].duplicated().any():
            repeated = frame[column][frame[column].duplicated()].iloc[0]
            raise DataError(f"{path.name} has {literal(repeated)} twice in column {column!r}; keep one line for each id")
    ids: pd.Series[str] = frame.set_index(number_column)[raw]
    return ids


def _translated(numbers: "pd.Series[str]", raw: "pd.Series[str]", source: str, mapping: str) -> "pd.Series[str]":
    ids = numbers.map(raw)
    if ids.isna().any():
        raise DataError(
            f"{source} uses number {numbers[ids.isna()].iloc[0]}, which {mapping} does not list; add it or remove {mapping}"
        )
    return ids
