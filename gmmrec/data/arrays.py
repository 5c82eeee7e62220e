"""Reader of feature arrays: ``NAME_feat.npy`` (one row per id) and ``NAME_feat.npz`` (ids and values)."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.columns import ALIASES, normalize_column_name
from gmmrec.data.ids import raw_ids
from gmmrec.data.overlap import LOW, Overlap, likely_match, refusal, warning
from gmmrec.data.tables import RawFeatures
from gmmrec.data.tokens import read_tokens
from gmmrec.data.unread import note_file
from gmmrec.errors import DataError, literal, quote_names
from gmmrec.safety.arrays import load_arrays

logger = logging.getLogger(__name__)

FEATURE_FILE = re.compile(r"(?P<name>.+?)_feat(ure)?s?\.(npy|npz)$")
SOLE_ARRAYS = ("values", "feat", "features")
"""Generic names of value arrays; the modality is then named after the file."""


def read_features(
    folder: Path, catalogues: dict[str, pd.DataFrame], default_type: str = "item", *, has_entities: bool = False
) -> list[RawFeatures]:
    """Return all modalities of a folder, in the order of their file names.

    Args:
        folder: Folder of the files; names of features of users or entities begin with the node type, as ``user_text_feat.npy``.
        catalogues: Tables with a column ``id``, by node type; an id array named like another of their columns is looked up there.
        default_type: Node type of features whose names begin with none.
        has_entities: Whether names may begin with ``entity_``.

    Raises:
        DataError: A file is not an array file, holds pickled objects, or has arrays that do not fit each other.
    """
    tables: list[RawFeatures] = []
    for path in sorted(folder.iterdir()):
        match = FEATURE_FILE.match(path.name)
        if match:
            node_type = "user" if path.name.startswith("user_") else default_type
            if has_entities and match["name"].startswith("entity_"):
                node_type = "entity"
            tables += _tables(path, match["name"], node_type, catalogues.get(node_type))
    sources: dict[str, str] = {}
    for table in tables:
        if table.name in sources:
            raise DataError(f"{sources[table.name]} and {table.source} both hold the modality {table.name!r}; rename one file")
        sources[table.name] = table.source
    return tables


def check_array(
    source: str, name: str, array: NDArray[Any], ids: "pd.Series[Any] | None" = None, mask: NDArray[Any] | None = None
) -> None:
    """Check that an array holds features and fits its ids and mask.

    Raises:
        DataError: Its shape or type is wrong; the message names ``source`` and ``name``.
    """
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(
            f"{source}: array {name!r} has shape {array.shape}, but features must be [rows, width] or [rows, tokens, width], "
            "with at least one of each"
        )
    if array.dtype.kind not in "fiu":
        raise DataError(f"{source}: array {name!r} holds {array.dtype} values; features must be numbers")
    if ids is not None and len(ids) != len(array):
        raise DataError(f"{source} has {len(array)} rows in {name!r} but {len(ids)} ids; every row needs exactly one id")
    if mask is not None and (mask.dtype != bool or mask.shape != array.shape[:-1]):
        raise DataError(f"{source}: 'mask' is {mask.dtype} {mask.shape}, but must be boolean {array.shape[:-1]}")


def _tables(path: Path, stem: str, node_type: str, catalogue: pd.DataFrame | None) -> list[RawFeatures]:
    note_file(path)
    arrays = load_arrays(path)
    keys = {name: array for name, array in arrays.items() if array.ndim == 1 and name != "mask"}
    values = {name: array for name, array in arrays.items() if array.ndim > 1 and name != "mask"}
    if not values:
        raise DataError(
            f"{path.name} holds no two-dimensional array (its arrays: {quote_names(arrays)}); save features as [rows, width]"
        )
    if len(keys) > 1:
        raise DataError(f"{path.name} holds {len(keys)} id arrays ({quote_names(keys)}); keep one")
    ids = None
    if keys:
        ((key, raw),) = keys.items()
        ids = _ids(path, key, raw, node_type, catalogue)
    tables = []
    for name, array in values.items():
        check_array(path.name, name, array, ids, arrays.get("mask"))
        modality = stem if name in SOLE_ARRAYS else name
        mask, keep = arrays.get("mask"), slice(None) if ids is None else ids.notna().to_numpy()
        kept_ids = None if ids is None else ids[keep].reset_index(drop=True)
        tokens = read_tokens(path, array.shape[1]) if array.ndim == 3 else None
        kept_mask = None if mask is None else mask[keep]
        tables.append(RawFeatures(modality, path.name, array[keep], kept_ids, kept_mask, node_type, tokens))
    return tables


def _ids(path: Path, key: str, raw: NDArray[Any], node_type: str, catalogue: pd.DataFrame | None) -> "pd.Series[Any]":
    """Return the raw ids of the rows, missing for keys outside the catalogue (features may cover a larger data set)."""
    if raw.dtype.kind not in "iuU":
        raise DataError(f"{path.name}: the ids {key!r} are {raw.dtype}; they must be integers or strings")
    keys = raw_ids(pd.Series(raw, name=key), Path(f"the arrays of {path.name}"))
    if keys.duplicated().any():
        raise DataError(f"{path.name} has id {literal(keys[keys.duplicated()].iloc[0])} more than once; keep one row for each id")
    is_direct = normalize_column_name(key) in ("ids", "id", node_type, f"{node_type}id")
    if not is_direct and catalogue is not None and key in catalogue.columns:
        known = catalogue[[key, "id"]].dropna()
        known = known.assign(**{key: _texts(known[key])}).drop_duplicates(key)
        texts = _texts(keys)
        ids: pd.Series[Any] = texts.map(known.set_index(key)["id"])
        overlap = Overlap.of(node_type, path.name, pd.Index(texts), f"column {key!r} of the table", pd.Index(known[key]))
        lost, lacking = texts[ids.isna()].tolist(), known[key][~known[key].isin(texts)].tolist()
        if not overlap.common and lost and lacking:
            raise DataError(refusal(overlap, lost, lacking, likely_match(lost, lacking)))
        if overlap.share < LOW:
            logger.warning("%s", warning(overlap, lost, lacking, likely_match(lost, lacking), num_failed=len(lost)))
        return ids
    if is_direct or normalize_column_name(key) in ALIASES[node_type]:
        return keys
    columns = "no table" if catalogue is None else f"the columns {quote_names(catalogue.columns)}"
    raise DataError(f"{path.name}: ids {key!r} cannot be matched to {node_type}s ({columns}); name the array 'ids'")


def _texts(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return ids as text, integers among floats (a column with missing values has become one of floats) as integers."""
    if pd.api.types.is_float_dtype(column) and bool((column % 1 == 0).all()):
        column = column.astype(np.int64)
    return column.astype(str).str.strip()
