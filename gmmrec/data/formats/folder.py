"""Reader of folders of tables and feature files: the package's own layout, and usual layouts of public data sets.

Interactions are one of ``interactions``, ``ratings``, ``reviews`` or ``checkins`` (.csv, .tsv, gzipped or not, or .parquet), or
have one line per user: ``sequences.txt`` (oldest first), or ``train.txt`` and ``test.txt``, which may also hold one interaction per
line (:mod:`gmmrec.data.formats.lines`), or are in one table per part, such as ``train.csv`` and ``test.csv``, or in files of JSON
objects (:mod:`gmmrec.data.formats.json_folder`). Optional files are ``split``,
``items``, ``users`` and ``NAME_feat.npy`` or ``.npz``, and ``triples`` with ``entities``, ``relations`` and the ``alignment`` of
items with entities. A folder may hold triples alone, also as RecBole's ``NAME.kg``; its features are then those of the entities.
Outfits are in ``outfits``; see :mod:`gmmrec.data.formats.outfits`.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.arrays import read_features
from gmmrec.data.attributes import ATTRIBUTE_FILES, read_attributes
from gmmrec.data.columns import ColumnNames, find_column, interaction_log
from gmmrec.data.files import TABLE_SUFFIXES, find_file, read_table
from gmmrec.data.formats.atomic import typed_form
from gmmrec.data.formats.json_folder import find_json_tables, read_json_attributes
from gmmrec.data.formats.lines import LineForm, check_sequences, form_of, part_files, read_lists, read_parts, table_parts
from gmmrec.data.formats.outfits import category_features, outfit_table
from gmmrec.data.parts import SplitPart
from gmmrec.data.tables import Tables
from gmmrec.data.text_form import current_form, read_as
from gmmrec.data.triple_tables import alignment_table, triple_table
from gmmrec.data.unread import note_file
from gmmrec.errors import DataError, literal, quote_names

logger = logging.getLogger(__name__)

LOG_FILES = ("interactions", "ratings", "reviews", "checkins")
KNOWLEDGE_FILES = {"entity": ("entities",), "relation": ("relations",)}
TEXT_SUFFIXES = (".txt", ".txt.gz")
RECBOLE_TRIPLES = (".kg", ".kg.gz")


def read_folder(folder: Path, columns: ColumnNames, lines: LineForm | None = None) -> Tables:
    """Read a data set from a folder.

    Args:
        folder: The folder.
        columns: Named columns.
        lines: Form of the lines of ``train.txt``; None detects it.

    Raises:
        DataError: The folder holds no interactions, or one of its files is invalid.
    """
    attributes = {}
    has_text_log = find_file(folder, (*LOG_FILES, "sequences", "train"), (*TABLE_SUFFIXES, *TEXT_SUFFIXES)) is not None
    json_tables = find_json_tables(folder, columns, None if has_text_log else LOG_FILES)
    is_alone = not has_text_log and "log" not in json_tables
    triple_path = find_file(folder, ("triples",), TABLE_SUFFIXES)
    if triple_path is None and is_alone:
        triple_path = _recbole_triples(folder)
    for node_type, stems in (ATTRIBUTE_FILES | (KNOWLEDGE_FILES if triple_path else {})).items():
        path = find_file(folder, stems, TABLE_SUFFIXES)
        if path is not None:
            attributes[node_type] = read_attributes(path, node_type, getattr(columns, node_type, None))
        elif node_type in json_tables and not is_alone:
            attributes[node_type] = read_json_attributes(json_tables[node_type], node_type, getattr(columns, node_type))
    read_log = partial(_log, folder, columns, lines, json_tables.get("log"))
    if triple_path is None:
        return _with_outfits(folder, read_log, attributes, is_alone=is_alone)
    log: pd.DataFrame = pd.DataFrame({"user": [], "item": []}) if is_alone else read_log()
    features = read_features(folder, attributes, "entity" if is_alone else "item", has_entities=True)
    alignment = _alignment(folder)
    with read_as(typed_form(triple_path) if triple_path.name.endswith(RECBOLE_TRIPLES) else current_form()):
        triples = triple_table(read_table(triple_path), triple_path)
    return Tables(folder.resolve().name, log, attributes, features, triples=triples, alignment=alignment)


def _alignment(folder: Path) -> pd.DataFrame | None:
    """Return the entity of every aligned item; ``links``, the file's former name, is refused."""
    path = find_file(folder, ("alignment",), TABLE_SUFFIXES)
    if path is not None:
        return alignment_table(read_table(path), path)
    former = find_file(folder, ("links",), TABLE_SUFFIXES)
    if former is not None and find_column(read_table(former), "entity", None, former.name, required=False):
        new = former.name.replace("links", "alignment")
        raise DataError(f"{former.name} aligns items with entities, but this file is now called {new}; rename it")
    if former is not None:
        note_file(former, is_read=False)
    return None


def _recbole_triples(folder: Path) -> Path | None:
    """Return ``NAME.kg`` of a folder without interactions of any kind, or None."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith(RECBOLE_TRIPLES))
    if not files or find_file(folder, ("outfits",), (*TABLE_SUFFIXES, *TEXT_SUFFIXES)) or any(folder.glob("*.inter*")):
        return None
    if len(files) > 1:
        raise DataError(
            f"folder {folder.name} holds {len(files)} tables of triples ({quote_names(p.name for p in files)}); keep one"
        )
    return files[0]


def _with_outfits(
    folder: Path, read_log: Callable[[], pd.DataFrame], attributes: dict[str, pd.DataFrame], *, is_alone: bool
) -> Tables:
    """Return interactions with outfits, if any; without interactions, every outfit interacts with its items."""
    path = find_file(folder, ("outfits",), (*TABLE_SUFFIXES, *TEXT_SUFFIXES))
    if path is None:
        return Tables(folder.resolve().name, read_log(), attributes, read_features(folder, attributes))
    outfits, outfit_log, catalogue = outfit_table(path)
    if is_alone and outfits.user is not None:
        raise DataError(f"{path.name} names users, but folder {folder.name} has no interactions.csv with their log; add it")
    if catalogue is not None:
        attributes["item"] = catalogue
    features = read_features(folder, attributes)
    if "category" in attributes.get("item", ()) and all(table.name != "category" for table in features):
        features.append(category_features(attributes["item"], path.name))
    log = outfit_log if is_alone else read_log()
    text_ids = frozenset({"user", "item"}) if catalogue is not None else frozenset()
    return Tables(folder.resolve().name, log, attributes, features, text_ids, outfits=outfits)


def has_log(folder: Path) -> bool:
    """Return whether a folder has interactions in the package's own layout: a table with a usual name, or sequences."""
    return bool(find_file(folder, LOG_FILES, TABLE_SUFFIXES) or find_file(folder, ("sequences",), TEXT_SUFFIXES))


def _log(folder: Path, columns: ColumnNames, lines: LineForm | None, json_log: Path | None) -> pd.DataFrame:
    path = json_log or find_file(folder, LOG_FILES, TABLE_SUFFIXES)
    if path is not None and lines is None:
        with read_as(columns.form):
            log = interaction_log(read_table(path), columns, path)
        split = find_file(folder, ("split",), TABLE_SUFFIXES)
        return (
            log if split is None or "split" in log else _join_split(log, interaction_log(read_table(split), columns, split), split)
        )
    sequences = find_file(folder, ("sequences",), TEXT_SUFFIXES)
    if sequences is not None:
        if lines is None:
            check_sequences(sequences)
        return read_lists(sequences, ordered=True)
    if parts := part_files(folder):
        form = lines or ("ratings" if columns.form.header == "none" else form_of(list(parts.values())))
        if form == "triples":
            raise DataError(f"{parts[SplitPart.TRAIN].name} holds triples, not interactions; set format to 'knowledge'")
        return read_parts(parts, columns, form)
    if parts := table_parts(folder):
        return read_parts(parts, columns, "table")
    files = sorted(path.name for path in folder.iterdir())
    raise DataError(
        f"folder {folder.name} holds no interactions.csv, ratings, reviews, checkins, sequences.txt or train.txt "
        f"(it holds {quote_names(files) or 'nothing'}); add one, or give the path of the table itself"
    )


def _join_split(log: pd.DataFrame, split: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the part of every user-item pair to the log, from a table of pairs."""
    if "split" not in split:
        raise DataError(f"{path.name} has no column 'split'; add it or rename the file")
    pairs = split.drop_duplicates(["user", "item"])[["user", "item", "split"]]
    joined: pd.DataFrame = log.merge(pairs, on=["user", "item"], how="left")
    missing = joined["split"].isna().to_numpy()
    if missing.any():
        user, item = (log[end].iloc[int(missing.argmax())] for end in ("user", "item"))
        raise DataError(
            f"{path.name} has no row for user {literal(user)} and item {literal(item)}, "
            f"which interact; add the pair or remove the file"
        )
    joined["split"] = joined["split"].astype(np.int8)
    return joined
