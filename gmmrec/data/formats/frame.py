"""Reads one table of interactions: CSV, TSV (also gzipped), Parquet or a pandas DataFrame."""

from pathlib import Path

import pandas as pd

from gmmrec.data.columns import ColumnNames, interaction_log
from gmmrec.data.files import read_table
from gmmrec.data.tables import Tables


def read_table_file(path: Path, columns: ColumnNames) -> Tables:
    """A data set without features from one file."""
    return read_frame(read_table(path), columns, path)


def read_frame(frame: pd.DataFrame, columns: ColumnNames, path: Path | None = None) -> Tables:
    """A data set without features from a DataFrame; ids that are strings there stay strings, also where they look like numbers."""
    log = interaction_log(frame, columns, path)
    if path is not None and path.suffix != ".parquet":
        return Tables(path.name.split(".")[0], log)
    text = {node_type for node_type in ("user", "item") if not pd.api.types.is_integer_dtype(log[node_type])}
    return Tables(path.stem if path else "frame", log, text_ids=frozenset(text))
