"""Reader of RecBole's atomic files: ``NAME.inter``, ``NAME.item`` and ``NAME.user``, gzipped or not, with typed headers.

Columns of type ``float_seq`` in the item and user files are features, as are those of ``NAME.itememb`` and ``NAME.useremb``.
``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter`` instead of ``NAME.inter`` give a split. A column ``item_id_list``
holds the items before; see :mod:`gmmrec.data.formats.slices`. ``NAME.kg`` holds triples, ``NAME.link`` aligns items with entities.
Columns are separated by tabs, or by what stands between the names in the header.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.attributes import attribute_table
from gmmrec.data.columns import ColumnNames, find_column, interaction_log
from gmmrec.data.files import find_file, first_line, read_table
from gmmrec.data.formats.slices import SUFFIX, expand
from gmmrec.data.ids import raw_ids
from gmmrec.data.parts import GIVEN_PARTS, SplitPart
from gmmrec.data.tables import RawFeatures, Tables
from gmmrec.data.text_form import TextForm, current_form, read_as
from gmmrec.data.triple_tables import alignment_table, triple_table
from gmmrec.errors import DataError, literal, quote_names

VECTORS = {"item": "itememb", "user": "useremb"}
"""Endings of the files of vectors, by node type."""
TYPES = ("token", "float", "token_seq", "float_seq")


def interaction_files(folder: Path) -> list[Path]:
    """Return all ``*.inter`` and ``*.inter.gz`` files of a folder."""
    return sorted([*folder.glob("*.inter"), *folder.glob("*.inter.gz")])


def read_atomic(folder: Path, columns: ColumnNames) -> Tables:
    """Read a data set from a folder of atomic files.

    Raises:
        DataError: A header has no types, or a cell is invalid.
    """
    whole: dict[str, Path] = {}
    parts: dict[SplitPart, Path] = {}
    for path in interaction_files(folder):
        stem = path.name.split(".inter")[0]
        part = next((part for part in GIVEN_PARTS if stem.endswith(f".{part}")), None)
        if part is not None:
            parts[part] = path
        else:
            whole[stem] = path
    if len(whole) > 1:
        raise DataError(f"folder {folder.name} holds {len(whole)} data sets ({', '.join(sorted(whole))}); keep one per folder")
    if parts:
        logs = [_log(parts[part], columns).assign(split=np.int8(part.code)) for part in _present(parts)]
        _check_columns({parts[part].name: part_log for part, part_log in zip(_present(parts), logs, strict=True)})
        log, name = pd.concat(logs, ignore_index=True), next(iter(parts.values())).name.split(".inter")[0].rsplit(".", 1)[0]
    else:
        ((name, path),) = whole.items()
        log = _log(path, columns)
    if "history" in log:
        log = expand(log, f"{name}.inter")
    attributes: dict[str, pd.DataFrame] = {}
    features: list[RawFeatures] = []
    for node_type in ("item", "user"):
        table_path = _file(folder, name, node_type)
        if table_path is not None:
            frame, types = _typed_table(table_path)
            plain = frame[[column for column, kind in types.items() if kind != "float_seq"]]
            attributes[node_type] = attribute_table(plain, table_path, node_type, getattr(columns, node_type))
            ids = attributes[node_type]["id"]
            vectors = [column for column, kind in types.items() if kind == "float_seq"]
            features += [_features(column, table_path, frame[column], ids, node_type) for column in vectors]
    for node_type, ending in VECTORS.items():
        table_path = _file(folder, name, ending)
        if table_path is not None:
            features += _vectors(table_path, node_type)
    repeated = [table.name for position, table in enumerate(features) if table.name in {t.name for t in features[:position]}]
    if repeated:
        raise DataError(f"two columns of vectors in folder {folder.name} are the modality {repeated[0]!r}; rename one of them")
    kg, link = _file(folder, name, "kg"), _file(folder, name, "link")
    triples = None if kg is None else triple_table(_typed_table(kg)[0], kg)
    alignment = None if link is None or kg is None else alignment_table(_typed_table(link)[0], link)
    return Tables(name, log, attributes, features, triples=triples, alignment=alignment)


def _present(parts: Mapping[SplitPart, Path]) -> list[SplitPart]:
    return [part for part in GIVEN_PARTS if part in parts]


def _check_columns(logs: Mapping[str, pd.DataFrame]) -> None:
    """Refuse parts of which only some have times, ratings or reviews."""
    (first, columns), *others = ((name, list(log.columns)) for name, log in logs.items())
    for name, found in others:
        odd = sorted(set(columns) ^ set(found))
        if odd:
            has, lacks = (first, name) if odd[0] in columns else (name, first)
            raise DataError(f"{has} has a column of the role {odd[0]!r}, but {lacks} has none; give all parts the same columns")


def _file(folder: Path, name: str, ending: str) -> Path | None:
    return find_file(folder, (f"{name}.{ending}",), ("", ".gz"))


def _log(path: Path, columns: ColumnNames) -> pd.DataFrame:
    with read_as(typed_form(path)):
        return _typed_log(path, columns)


def _typed_log(path: Path, columns: ColumnNames) -> pd.DataFrame:
    """Return the interactions of a file, with a column ``history`` of the items before if it has one."""
    frame, types = _typed_table(path)
    item = find_column(frame, "item", columns.item, path.name)
    history = next((name for name, kind in types.items() if kind == "token_seq" and name == f"{item}{SUFFIX}"), None)
    if history is None:
        return interaction_log(frame, columns, path)
    lengths = [name for name in types if name in ("item_length", f"{item}_length")]  # those of the history, which says so itself
    log = interaction_log(frame.drop(columns=[history, *lengths]), columns, path)
    if len(log) < len(frame):
        raise DataError(
            f"{path.name} has histories in {history!r}, but rows without a rating; fill in all of them or drop the column"
        )
    log["history"] = frame[history]
    return log


def _vectors(path: Path, node_type: str) -> list[RawFeatures]:
    """Return the modalities of a table of ids and vectors."""
    frame, types = _typed_table(path)
    keys, vectors = ([name for name, kind in types.items() if (kind == "float_seq") is is_vector] for is_vector in (False, True))
    if len(keys) != 1 or not vectors:
        raise DataError(
            f"{path.name} has the columns {quote_names(types)}, but must have one of ids and one or more of type float_seq"
        )
    ids = raw_ids(frame[keys[0]], path)
    if ids.duplicated().any():
        raise DataError(f"{path.name} has id {literal(ids[ids.duplicated()].iloc[0])} more than once; keep one row for each id")
    return [_features(column, path, frame[column], ids, node_type) for column in vectors]


def typed_form(path: Path) -> TextForm:
    """Return the form of a table with a typed header: its separator is what stands between a type and the next name."""
    match = re.match(rf"[^:]+:(?:{'|'.join(sorted(TYPES, reverse=True))})(\t|::| +|[^\w\s])", first_line(path))
    return replace(current_form(), separator=match.group(1).strip(" ") or "space" if match else "\t", quoted=False)


def _typed_table(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table without the types in its header, and the types by column."""
    with read_as(typed_form(path)):
        frame = read_table(path)
    types = {}
    for column in frame.columns:
        name, _, kind = str(column).partition(":")
        if kind not in TYPES:
            raise DataError(
                f"{path.name}: column {column!r} has no type; write it as {name + ':token'!r} or as {', '.join(TYPES[1:])}"
            )
        if name in types:
            raise DataError(f"{path.name} has more than one column {name!r}; rename or drop all but one")
        types[name] = kind
    return frame.set_axis(list(types), axis=1), types


def _features(name: str, path: Path, column: "pd.Series[str]", ids: "pd.Series[str]", node_type: str) -> RawFeatures:
    """Return one modality from a column of space-separated numbers; nodes without numbers have no row."""
    present = column.notna().to_numpy()
    lists = column[present].reset_index(drop=True)
    widths = lists.str.count(r"\S+").to_numpy()
    present_ids = ids[present].reset_index(drop=True)
    if not len(widths):
        raise DataError(f"{path.name}: column {name!r} holds no vector; fill or drop it")
    if (widths != widths[0]).any():
        row = int((widths != widths[0]).argmax())
        raise DataError(
            f"{path.name}: {node_type} {present_ids[row]!r} has {widths[row]} numbers in {name!r}, but the first has {widths[0]}; "
            f"give all vectors the same width"
        )
    try:
        values = np.array(" ".join(lists).split(), dtype=np.float32).reshape(len(lists), -1)
    except ValueError as error:
        raise DataError(f"{path.name}: column {name!r} does not hold lists of numbers ({error}); fix it") from None
    modality = f"user_{name}" if node_type == "user" and not name.startswith("user_") else name
    return RawFeatures(modality, path.name, values, present_ids, node_type=node_type)
