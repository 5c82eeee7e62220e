"""Parquet tables, read only after the sizes of their columns were checked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gmmrec.errors import DataError
from gmmrec.safety.sizes import NUMBERS, check_file, check_unpacked

MOST_COLUMNS = 100_000
"""Columns of the widest table that is read."""


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table with pyarrow, which must be installed.

    Values that repeat take next to nothing in the file and their full size in memory, so both the declared numbers of values and
    the lengths of repeated texts are counted first.

    Raises:
        DataError: The columns take more memory than :func:`gmmrec.safety.sizes.bound` allows.
        pyarrow.ArrowException: The file is damaged.
        OSError: The file cannot be read, or is damaged.
    """
    import pyarrow.parquet as pq

    check_file(path)
    about = pq.read_metadata(path)
    if about.num_columns > MOST_COLUMNS:
        raise DataError(f"{path.name} has {about.num_columns:,} columns, more than {MOST_COLUMNS:,}; give it a line per row")
    kinds = [about.schema.column(position) for position in range(about.num_columns)]
    widths = [max(8, kind.length or 0) for kind in kinds]
    unpacked = 0
    for group in range(about.num_row_groups):
        for position, width in enumerate(widths):
            chunk = about.row_group(group).column(position)
            unpacked += max(chunk.total_uncompressed_size, chunk.num_values * width)
    check_unpacked(max(unpacked, 8 * about.num_rows), path, NUMBERS)
    texts = [kind.path for kind in kinds if kind.physical_type == "BYTE_ARRAY"]
    if texts:
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            total = sum(_text_bytes(column) for batch in file.iter_batches(columns=texts) for column in batch.columns)
        check_unpacked(total, path, NUMBERS, "its text")
    return pd.read_parquet(path, engine="pyarrow")


def _text_bytes(column: Any) -> int:
    """Return the bytes of the texts of an Arrow array once every value has its own copy."""
    import pyarrow.compute as pc

    total = 0
    for values in _leaves(column):
        lengths = pc.binary_length(values.dictionary).fill_null(0).to_numpy(zero_copy_only=False)
        rows = values.indices.drop_null().to_numpy(zero_copy_only=False)
        total += int(lengths[rows].sum(dtype="int64")) if len(lengths) else 0
    return total


def _leaves(column: Any) -> Iterator[Any]:
    """Yield the dictionary arrays in an Arrow array."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for inner in column.flatten():
            yield from _leaves(inner)
    elif pa.types.is_nested(column.type):
        yield from _leaves(column.values)
