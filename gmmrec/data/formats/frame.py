"""Reader of interactions from one table or DataFrame, with attributes, features and triples as DataFrames and arrays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from gmmrec.data.arrays import check_array
from gmmrec.data.attributes import attribute_table
from gmmrec.data.columns import ColumnNames, find_column, interaction_log
from gmmrec.data.files import read_table
from gmmrec.data.ids import raw_ids
from gmmrec.data.tables import RawFeatures, Tables
from gmmrec.data.text_form import read_as
from gmmrec.data.triple_tables import alignment_table, triple_table
from gmmrec.errors import DataError, literal, quote_names

Vectors: TypeAlias = "ArrayLike | torch.Tensor"
GivenFeatures: TypeAlias = "Vectors | Sequence[Any] | Mapping[Any, Any] | pd.DataFrame | pd.Series[Any]"
"""One modality: ``(ids, array)``, ``(ids, array, mask)``, a mapping from id to vector, a DataFrame with one row per id, or an
array whose row ``i`` belongs to the integer id ``i``."""


def read_table_file(path: Path, columns: ColumnNames) -> Tables:
    """Read a data set without features from one file."""
    with read_as(columns.form):
        return read_frame(read_table(path), columns, path)


def read_frame(frame: pd.DataFrame, columns: ColumnNames, path: Path | None = None) -> Tables:
    """Read a data set without features from a DataFrame; string ids stay strings, even if they look like numbers."""
    log = interaction_log(_plain(frame, path or Path("the frame")), columns, path)
    if path is not None and path.suffix != ".parquet":
        return Tables(path.name.split(".")[0], log)
    text = {node_type for node_type in ("user", "item") if not pd.api.types.is_integer_dtype(log[node_type])}
    return Tables(path.stem if path else "frame", log, text_ids=frozenset(text))


def with_frames(
    tables: Tables,
    columns: ColumnNames,
    *,
    attributes: Mapping[str, pd.DataFrame],
    features: Mapping[str, GivenFeatures],
    triples: pd.DataFrame | None = None,
    alignment: pd.DataFrame | None = None,
) -> Tables:
    """Replace attributes, features and triples of the same name by those from memory.

    Args:
        tables: Tables of a reader.
        columns: Named columns.
        attributes: Tables by node type, with an id column or the ids as the index (named like an id column, or strings).
        features: Features by modality; names of user modalities begin with ``user_``, of entity modalities with ``entity_``.
        triples: Triples with the columns head, relation and tail.
        alignment: Entity of each item, with the columns item and entity.

    Raises:
        DataError: A table or an array is invalid; the message names it and the remedy.
    """
    labels = {node_type: Path(f"the frame of {node_type}s") for node_type in attributes}  # for messages, not files
    new_attributes = {
        node_type: attribute_table(
            _keyed(frame, node_type, labels[node_type]), labels[node_type], node_type, getattr(columns, node_type)
        )
        for node_type, frame in attributes.items()
    }
    triple_label, alignment_label = (Path(f"the frame of {name}") for name in ("triples", "alignment"))
    if triples is not None:
        triples = triple_table(_plain(triples, triple_label), triple_label)
    if alignment is not None:
        alignment = alignment_table(_plain(alignment, alignment_label), alignment_label)
    tables = replace(
        tables,
        attributes={**tables.attributes, **new_attributes},
        triples=tables.triples if triples is None else triples,
        alignment=tables.alignment if alignment is None else alignment,
    )
    types = ("user", "entity") if tables.triples is not None else ("user",)
    new_features = []
    for name, given in features.items():
        node_type = next((node_type for node_type in types if name.startswith(f"{node_type}_")), "item")
        new_features.append(_features(name, given, node_type))
    return replace(tables, features=[*(table for table in tables.features if table.name not in features), *new_features])


def _plain(frame: pd.DataFrame, where: Path) -> pd.DataFrame:
    """Return a frame whose columns are distinct strings, with a named index as a column."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{where.name} is a {type(frame).__name__}, but must be a pandas DataFrame")
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    frame = frame.reset_index(level=named).reset_index(drop=True) if named else frame.reset_index(drop=True)
    names = pd.Index([str(column) for column in frame.columns])
    if names.has_duplicates:
        repeated = quote_names(names[names.duplicated()].unique())
        raise DataError(f"{where.name} has more than one column {repeated}; rename or drop all but one")
    plain: pd.DataFrame = frame.set_axis(names, axis=1)
    return plain


def _keyed(frame: pd.DataFrame, node_type: str, where: Path) -> pd.DataFrame:
    """Return a plain frame with an unnamed string index as the id column, unless there is another one."""
    plain = _plain(frame, where)
    is_key = frame.index.names == [None] and not pd.api.types.is_numeric_dtype(frame.index)
    if is_key and find_column(plain, node_type, None, where.name, required=False) is None:
        plain[node_type] = frame.index.to_numpy()
    return plain


def _features(name: str, given: GivenFeatures, node_type: str) -> RawFeatures:
    source = f"modality {name!r}"
    mask: NDArray[Any] | None = None
    raw: Any = None
    if isinstance(given, pd.DataFrame):
        raw, values = _from_frame(given, node_type, source)
    elif isinstance(given, Mapping) and "values" in given and set(given) <= {"ids", "values", "mask"}:
        raw, values, mask = given.get("ids"), _array(given["values"], source), _mask(given.get("mask"), source)
    elif isinstance(given, Mapping | pd.Series):
        raw, values = _stacked(given.items(), source)
    elif isinstance(given, tuple) and len(given) in (2, 3):
        raw, values, mask = given[0], _array(given[1], source), _mask(given[2] if len(given) == 3 else None, source)
    elif isinstance(given, np.ndarray | torch.Tensor):
        values = _array(given, source)
    else:
        raise DataError(
            f"{source} is a {type(given).__name__}, but must be (ids, array), a mapping from id to vector, a DataFrame "
            "with one row per id, or an array"
        )
    ids = None if raw is None else _ids(raw, source)
    check_array(source, name, values, ids, mask)
    if values.dtype.kind == "f":
        missing = np.isnan(values).all(-1)
        mask = ~missing if mask is None else mask & ~missing
    return RawFeatures(name, source, values, ids, mask, node_type)


def _from_frame(frame: pd.DataFrame, node_type: str, source: str) -> tuple[Any, NDArray[Any]]:
    """Return ids from a column with a usual name, else from the index, and vectors from one column or one per dimension."""
    index = frame.index
    frame = _plain(frame.reset_index(drop=True), Path(source))
    key = find_column(frame, node_type, None, source, required=False)
    ids: Any = index if key is None else frame[key]
    values = frame if key is None else frame.drop(columns=key)
    if values.shape[1] == 1 and pd.api.types.is_object_dtype(values.dtypes.iloc[0]):
        return _stacked(zip(ids, values.iloc[:, 0], strict=True), source)
    text = [column for column in values if not pd.api.types.is_numeric_dtype(values[column])]
    if text:
        raise DataError(f"{source} holds {values[text[0]].dtype} values in column {text[0]!r}; features must be numbers")
    return ids, values.to_numpy(dtype=np.float32, na_value=np.nan)


def _stacked(vectors: Iterable[tuple[Any, Any]], source: str) -> tuple[list[Any], NDArray[Any]]:
    """Return ids and vectors; None or a single NaN marks a missing vector."""
    pairs = [(raw_id, _array(vector, source)) for raw_id, vector in vectors if vector is not None]
    ids, arrays = [raw_id for raw_id, array in pairs if array.ndim], [array for _, array in pairs if array.ndim]
    if not arrays:
        raise DataError(f"{source} holds no vector; give at least one, or leave the modality out")
    for raw_id, array in zip(ids, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"{source} has shape {array.shape} for id {literal(raw_id)} but {arrays[0].shape} for the first; use one shape"
            )
    return ids, np.stack(arrays)


def _array(values: Any, source: str) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to_dense()
        values = (values.float() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{source} is not an array ({error}); give all vectors the same width") from None
    return array


def _mask(mask: Any, source: str) -> NDArray[Any] | None:
    return None if mask is None else _array(mask, source)


def _ids(raw: Any, source: str) -> "pd.Series[Any]":
    """Return the raw ids of the rows, distinct and none missing."""
    values = raw.detach().cpu().numpy() if isinstance(raw, torch.Tensor) else raw
    ids = raw_ids(pd.Series(list(values), name="ids"), Path(source))
    if ids.duplicated().any():
        raise DataError(f"{source} has id {literal(ids[ids.duplicated()].iloc[0])} more than once; keep one row for each id")
    return ids
