"""load_dataset: choice of a reader by the content of a path, then filtering by the settings."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gmmrec.config import MAY_CHANGE, check_literals, check_non_negative, check_positive, unknown_setting
from gmmrec.data.assemble import assemble
from gmmrec.data.columns import ColumnNames
from gmmrec.data.dataset import Dataset
from gmmrec.data.files import TABLE_SUFFIXES, TEXT_SUFFIXES, first_line
from gmmrec.data.filter import Duplicates, drop_duplicates, k_core, min_weight, select_modalities, shift_times
from gmmrec.data.formats.atomic import interaction_files, read_atomic
from gmmrec.data.formats.bundled import bundled_names, read_bundled
from gmmrec.data.formats.folder import has_log, read_folder
from gmmrec.data.formats.frame import GivenFeatures, read_frame, read_table_file, with_frames
from gmmrec.data.formats.ifashion import is_ifashion, read_ifashion
from gmmrec.data.formats.impressions import is_impressions, read_impressions
from gmmrec.data.formats.knowledge import is_knowledge, read_knowledge
from gmmrec.data.formats.lines import form_of, part_files
from gmmrec.data.formats.mmrec import read_mmrec
from gmmrec.data.formats.movielens import is_movielens, read_movielens
from gmmrec.data.formats.polyvore import is_polyvore, read_polyvore
from gmmrec.data.json_lines import JSON_SUFFIXES
from gmmrec.data.tables import Tables
from gmmrec.data.text_form import Decimal, Header, TextForm, read_as
from gmmrec.data.times import check_time_format
from gmmrec.data.unread import note_folder, unread_of, watch_reading
from gmmrec.errors import DataError, UsageError, WrongTypeError, did_you_mean, literal, quote_names
from gmmrec.storage.whole_folder import check_complete

logger = logging.getLogger(__name__)

Format = Literal[
    "auto", "folder", "lists", "ratings", "atomic", "mmrec", "table", "knowledge", "outfits", "impressions", "movielens"
]

REMEDIES = {
    "Dataset": "it is loaded already",
    "HeteroData": "convert it with Dataset.from_pyg(…)",
    "Interactions": "put it into a Dataset, with vocabularies",
    "LazyFrame": "convert it with .collect().to_pandas()",
    "Table": "convert it with .to_pandas()",
}
"""Conversions of other types, by their names; anything else is put into a DataFrame."""


@dataclass(frozen=True)
class DataConfig:
    """Location, format and filters of the data."""

    path: str = field(default="movies-small", metadata=MAY_CHANGE)
    """A folder, a table file, or the name of a bundled data set."""
    format: Format = "auto"
    """Format of the path; ``auto`` detects it. Lines of ``train.txt`` are ``lists`` (a user and items), ``ratings`` (user, item and
    optionally rating and time) or ``knowledge`` (head, relation and tail)."""
    header: Header = "first"
    """Line of the table of interactions with the column names: the ``first``, or ``none``; columns are then named by number,
    from 1."""
    separator: str | None = None
    """Text between the columns of the table of interactions, such as ``;``, ``::``, ``tab`` or ``space`` (any number of spaces);
    None detects it."""
    encoding: str | None = None
    """Encoding of all text files, such as ``latin-1`` or ``cp1252``; None reads UTF-8, and UTF-16 with a byte order mark."""
    decimal: Decimal | None = None
    """Mark before the decimals of ratings and times, ``.`` or ``,``; None detects it where it is certain."""
    user_column: str | None = None
    """Column of user ids; None looks for a usual name such as ``user`` or ``userId``."""
    item_column: str | None = None
    """Column of item ids; None looks for a usual name such as ``item`` or ``movieId``."""
    time_column: str | None = None
    """Column of times (Unix times, dates or steps); None looks for a usual name such as ``timestamp`` or ``date``,
    ``none`` ignores times."""
    time_format: str = "auto"
    """Form of the times: ``s``, ``ms``, ``us`` or ``ns`` since 1970, ``yyyymmdd``, ``year``, ``spreadsheet`` or
    ``spreadsheet_1904`` days, ``day_first`` or ``month_first`` dates, a pattern such as ``%d.%m.%Y %H:%M``, or ``order`` for
    numbers that are no dates; ``auto`` recognises it, and refuses what could be two of them."""
    utc_offset: float = 0.0
    """Hours added to all times, so that hours and weekdays are local where the source gives UTC."""
    weight_column: str | None = None
    """Column of ratings or weights; None looks for a usual name such as ``rating``, ``none`` ignores ratings."""
    split_column: str | None = None
    """Column of ``train``, ``valid`` and ``test`` labels; None looks for a usual name such as ``split``,
    ``none`` ignores the split."""
    review_column: str | None = None
    """Column of review texts; None looks for a usual name such as ``review`` or ``reviewText``, ``none`` ignores reviews."""
    title_column: str | None = None
    """Column of the item table shown beside ids; None uses ``title`` if present."""
    review_words: int = 32
    """Number of words kept of a review; the rest is cut off."""
    duplicates: Duplicates = "first"
    """Interaction kept of a repeated user-item pair: the ``first`` or ``last`` in time, or the first with the ``sum`` of the
    weights; ``keep`` keeps all, ``error`` refuses repeats."""
    min_rating: float | None = None
    """Minimum rating that counts as an interaction; None counts every rating."""
    k_core: int = 0
    """Minimum number of interactions of every user and item, applied last; 0 keeps all."""
    modalities: str | list[str] | None = None
    """Modalities to use, as a list or as ``image,text``; None uses all, an empty list none."""

    def __post_init__(self) -> None:
        check_literals(self)
        check_non_negative(k_core=self.k_core)
        check_positive(review_words=self.review_words)
        check_time_format(self.time_format)
        for name, value in vars(self).items():
            if name.endswith("_column") and (isinstance(value, bool) or not isinstance(value, str | int | None)):
                raise WrongTypeError(f"{name} must be the name of a column, but is {literal(value)}")
        for name, number in (("min_rating", 0 if self.min_rating is None else self.min_rating), ("utc_offset", self.utc_offset)):
            if not (isinstance(number, Real) and math.isfinite(number)):
                raise WrongTypeError(f"{name} must be a finite number, but is {literal(number)}")
        names = self.modalities or []
        if not (isinstance(names, str | list | tuple) and all(isinstance(name, str) for name in names)):
            raise WrongTypeError(f"modalities must be a list of names, but is {literal(self.modalities)}")
        self.text_form()

    def text_form(self) -> TextForm:
        """Return the form of the table of interactions."""
        return TextForm(self.separator, self.header, self.encoding, self.decimal)


def load_dataset(
    source: str | Path | pd.DataFrame | DataConfig = "movies-small",
    *,
    items: pd.DataFrame | None = None,
    users: pd.DataFrame | None = None,
    features: Mapping[str, GivenFeatures] | None = None,
    triples: pd.DataFrame | None = None,
    alignment: pd.DataFrame | None = None,
    **settings: Any,
) -> Dataset:
    """Load a data set.

    DataFrames and arrays replace tables of the source with the same name; they are read like the files ``items.csv``,
    ``users.csv``, ``NAME_feat.npz``, ``triples.csv`` and ``alignment.csv`` of a folder.

    Args:
        source: Path, name of a bundled data set, DataFrame of interactions, or a complete configuration.
        items: Attributes of items, with a column of ids or the ids as the index.
        users: Attributes of users, likewise.
        features: Features by modality: ``(ids, array)`` or ``(ids, array, mask)``, a mapping from id to vector, a DataFrame with
            one row per id, or an array whose row ``i`` belongs to the integer id ``i``. Rows of only NaN or zeros are missing.
            Names of user modalities begin with ``user_``, those of entity modalities with ``entity_``.
        triples: Triples, with the columns head, relation and tail.
        alignment: Entity of each item, with the columns item and entity.
        settings: Fields of :class:`DataConfig`.

    Raises:
        WrongTypeError: The source is nothing that is read as a data set, such as a list or an array.
        DataError: The path holds no data set, or its data is invalid; the message names file, line and remedy.
        UsageError: A setting is unknown or impossible.

    >>> dataset = load_dataset("movies-small", min_rating=4)
    >>> dataset.num_users, dataset.num_items, len(dataset.interactions)
    (671, 9066, 51568)
    """
    check_source(source, "load_dataset")
    known = [field.name for field in fields(DataConfig)]
    for name in settings:
        if name not in known:
            raise unknown_setting(name, known)
    if features is not None and not isinstance(features, Mapping):
        raise WrongTypeError(f"features must be a dictionary from modality to array, but is a {type(features).__name__}")
    if isinstance(source, DataConfig):
        config, frame = replace(source, **settings), None
    elif isinstance(source, pd.DataFrame):
        config, frame = DataConfig(path="frame", **settings), source
    else:
        config, frame = DataConfig(path=str(source), **settings), None
    roles = [field.name for field in fields(ColumnNames) if field.name not in ("form", "time_format")]
    settings_by_role = {role: getattr(config, f"{role}_column") for role in roles}
    by_role = {role: None if column is None else str(column) for role, column in settings_by_role.items()}
    columns = ColumnNames(**by_role, form=config.text_form(), time_format=config.time_format)
    with watch_reading() as reading, read_as(TextForm(encoding=config.encoding)):
        tables = _read(config, columns) if frame is None else read_frame(frame, columns)
    attributes = {node_type: table for node_type, table in (("item", items), ("user", users)) if table is not None}
    given = {} if features is None else features
    tables = with_frames(tables, columns, attributes=attributes, features=given, triples=triples, alignment=alignment)
    dataset = replace(assemble(tables, config.review_words), unread=unread_of(reading))
    if config.title_column is not None:
        dataset = with_titles(dataset, config.title_column)
    before = len(dataset.interactions)
    dataset = drop_duplicates(dataset, config.duplicates)
    if len(dataset.interactions) < before:
        repeats = before - len(dataset.interactions)
        logger.warning("%s: %d repeated user-item pairs are merged (duplicates=%r)", dataset.name, repeats, config.duplicates)
    if config.utc_offset:
        dataset = shift_times(dataset, config.utc_offset)
    if config.min_rating is not None:
        dataset = min_weight(dataset, config.min_rating)
    elif dataset.interactions.weight is not None and set(dataset.interactions.weight.unique().tolist()) == {0.0, 1.0}:
        logger.warning(
            "%s: ratings are 0 or 1, and those of 0 count as interactions too; if 0 is no like, set min_rating to 1", dataset.name
        )
    if config.modalities is not None:
        names = config.modalities.split(",") if isinstance(config.modalities, str) else config.modalities
        dataset = select_modalities(dataset, names)
    return k_core(dataset, config.k_core) if config.k_core else dataset


def check_source(source: object, caller: str) -> None:
    """Check that a value is read as a data set, so that nothing else, a bundled one least of all, stands in for it.

    Raises:
        WrongTypeError: It is neither a path or name, nor a DataFrame, nor settings; the message says how to convert it.
        UsageError: The path is empty.
    """
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise UsageError(f"the path given to {caller}() is empty; give a folder, a file or the name of a bundled data set")
        return
    if isinstance(source, pd.DataFrame | DataConfig):
        return
    kind = type(source).__name__
    remedy = REMEDIES.get(kind, "put the interactions into pandas.DataFrame({'user': …, 'item': …})")
    raise WrongTypeError(
        f"{caller}() takes {'a Dataset, ' if caller == 'fit' else ''}a pandas DataFrame of interactions, the path of a folder or "
        f"file, or the name of a bundled data set, but got {'None' if source is None else f'a value of type {kind}'}; {remedy}"
    )


def _read(config: DataConfig, columns: ColumnNames) -> Tables:
    path = Path(config.path).expanduser()
    if not path.exists():
        if config.path in bundled_names():
            return read_bundled(config.path)
        raise DataError(
            f"there is no file, folder or bundled data set {config.path!r}{did_you_mean(config.path, bundled_names())}; "
            f"bundled data sets are {quote_names(bundled_names())}"
        )
    chosen = _format_of(path, config.header) if config.format == "auto" else config.format
    if chosen == "table":
        if path.is_dir():
            raise DataError(f"{path.name} is a folder, but format 'table' expects one file; give the path of the file")
        return read_table_file(path, columns)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        note_folder(folder)
        check_complete(folder)
    if chosen in ("atomic", "mmrec") and not interaction_files(folder):
        raise DataError(f"folder {folder.name} holds no .inter file, which format {chosen!r} needs; remove the format setting")
    if chosen == "knowledge":
        return read_knowledge(folder)
    if chosen == "outfits":
        return read_polyvore(folder) if is_polyvore(folder) else read_ifashion(folder)
    if chosen == "impressions":
        return read_impressions(folder)
    if chosen == "movielens":
        return read_movielens(path, columns)
    if chosen in ("lists", "ratings"):
        return read_folder(folder, columns, chosen)
    return {"folder": read_folder, "atomic": read_atomic, "mmrec": read_mmrec}[chosen](folder, columns)


def _format_of(path: Path, header: Header) -> Format:
    """Return the format of a path, by its name, the header of its ``.inter`` file, or the lines of ``train.txt``."""
    if path.is_file() and not path.name.endswith((".inter", ".inter.gz")):
        if header == "first" and is_movielens(path):
            return "movielens"
        if not path.name.endswith((*TABLE_SUFFIXES, *JSON_SUFFIXES, *TEXT_SUFFIXES)):
            raise DataError(
                f"{path.name} is not a table; expected a folder or a file that ends in one of "
                f"{quote_names((*TABLE_SUFFIXES, *JSON_SUFFIXES, *TEXT_SUFFIXES), 20)}"
            )
        return "table"
    files = interaction_files(path if path.is_dir() else path.parent)
    if files:
        return "atomic" if ":" in first_line(files[0]) else "mmrec"
    if is_impressions(path):
        return "impressions"
    if is_polyvore(path) or is_ifashion(path):
        return "outfits"
    if is_knowledge(path):
        return "knowledge"
    parts = {} if has_log(path) else part_files(path)
    if parts and header == "first":
        form = form_of(list(parts.values()))
        return "knowledge" if form == "triples" else "folder" if form == "table" else form
    return "movielens" if not parts and not has_log(path) and is_movielens(path) else "folder"


def with_titles(dataset: Dataset, column: str) -> Dataset:
    """Return a data set whose items are titled by one of their columns.

    Raises:
        DataError: The column does not exist; the message lists the existing ones.
    """
    frame = dataset.attributes.get("item")
    if frame is None or column not in frame.columns:
        known = [] if frame is None else [str(name) for name in frame.columns]
        available = f"its columns are {quote_names(known)}" if known else "it has no item table with attributes"
        raise DataError(f"{dataset.name} has no item column {column!r} for title_column{did_you_mean(column, known)}; {available}")
    return replace(dataset, attributes={**dataset.attributes, "item": frame.assign(title=frame[column])})
