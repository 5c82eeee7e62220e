"""load_dataset: the one way in. Chooses the reader by what a path holds, then filters as the settings say."""

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.data.assemble import assemble
from gmmrec.data.columns import ColumnNames
from gmmrec.data.dataset import Dataset
from gmmrec.data.errors import DataError, listed, nearest
from gmmrec.data.files import TABLE_SUFFIXES, first_line
from gmmrec.data.filter import Duplicates, drop_duplicates, k_core, min_weight, select_modalities, shift_times
from gmmrec.data.formats.atomic import interaction_files, read_atomic
from gmmrec.data.formats.bundled import bundled_names, read_bundled
from gmmrec.data.formats.folder import read_folder
from gmmrec.data.formats.frame import read_frame, read_table_file
from gmmrec.data.formats.ifashion import is_ifashion, read_ifashion
from gmmrec.data.formats.impressions import is_impressions, read_impressions
from gmmrec.data.formats.knowledge import is_knowledge, read_knowledge
from gmmrec.data.formats.mmrec import read_mmrec
from gmmrec.data.formats.polyvore import is_polyvore, read_polyvore
from gmmrec.data.tables import Tables

logger = logging.getLogger(__name__)

Format = Literal["auto", "folder", "atomic", "mmrec", "table", "knowledge", "outfits", "impressions"]


@dataclass(frozen=True)
class DataConfig:
    """Where the data are, how to read them, and what of them to use."""

    path: str = "movies-small"
    """A folder, a table file, or the name of a bundled data set."""
    format: Format = "auto"
    """How to read the path; ``auto`` looks at what it holds."""
    user_column: str | None = None
    """Column of user ids; None looks for a usual name such as ``user`` or ``userId``."""
    item_column: str | None = None
    """Column of item ids; None looks for a usual name such as ``item`` or ``movieId``."""
    time_column: str | None = None
    """Column of times (Unix seconds or dates); None looks for a usual name such as ``timestamp`` or ``date``,
    ``none`` does without."""
    utc_offset: float = 0.0
    """Hours added to all times, so that hours of the day and weekdays are those of the local clock where the source gives UTC."""
    weight_column: str | None = None
    """Column of ratings or weights; None looks for a usual name such as ``rating``, ``none`` does without."""
    split_column: str | None = None
    """Column of ``train``, ``valid`` and ``test`` labels; None looks for a usual name such as ``split``,
    ``none`` does without."""
    review_column: str | None = None
    """Column of reviews, what the user wrote; None looks for a usual name such as ``review`` or ``reviewText``,
    ``none`` does without."""
    title_column: str | None = None
    """Column of the table of items that is shown beside ids; None takes ``title`` where there is one."""
    review_words: int = 32
    """Words of a review that are kept; the rest is cut off."""
    duplicates: Duplicates = "first"
    """Which interaction of a repeated user-item pair counts: the ``first`` or ``last`` in time, or the first with the ``sum`` of
    the weights; ``keep`` leaves all, ``error`` refuses repeats."""
    min_rating: float | None = None
    """Least rating that counts as an interaction; None counts every rating."""
    k_core: int = 0
    """Least number of interactions of every user and every item, applied last; 0 keeps all."""
    modalities: str | list[str] | None = None
    """Names of the feature tables to use, as a list or as ``image,text``; None uses all, an empty list none."""

    def __post_init__(self) -> None:
        check_literals(self)
        check_non_negative(k_core=self.k_core)
        check_positive(review_words=self.review_words)


def load_dataset(source: str | Path | pd.DataFrame | DataConfig = "movies-small", **settings: Any) -> Dataset:
    """Reads a data set.

    Args:
        source: A path, the name of a bundled data set, a DataFrame of interactions, or a whole configuration.
        settings: Fields of :class:`DataConfig`.

    Raises:
        DataError: The path holds no data set, or its data cannot be used; the message names file, line and remedy.

    >>> dataset = load_dataset("movies-small", min_rating=4)
    >>> dataset.num_users, dataset.num_items, len(dataset.interactions)
    (671, 9066, 51568)
    """
    if isinstance(source, DataConfig):
        config, frame = replace(source, **settings), None
    elif isinstance(source, pd.DataFrame):
        config, frame = DataConfig(path="frame", **settings), source
    else:
        config, frame = DataConfig(path=str(source), **settings), None
    columns = ColumnNames(**{field.name: getattr(config, f"{field.name}_column") for field in fields(ColumnNames)})
    dataset = assemble(_read(config, columns) if frame is None else read_frame(frame, columns), config.review_words)
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
    if config.modalities is not None:
        names = config.modalities.split(",") if isinstance(config.modalities, str) else config.modalities
        dataset = select_modalities(dataset, names)
    return k_core(dataset, config.k_core) if config.k_core else dataset


def _read(config: DataConfig, columns: ColumnNames) -> Tables:
    path = Path(config.path).expanduser()
    if not path.exists():
        if config.path in bundled_names():
            return read_bundled(config.path)
        raise DataError(
            f"there is no file, folder or bundled data set {config.path!r}{nearest(config.path, bundled_names())}; "
            f"bundled are {listed(bundled_names())}"
        )
    chosen = _format_of(path) if config.format == "auto" else config.format
    if chosen == "table":
        if path.is_dir():
            raise DataError(f"{path.name} is a folder, but format 'table' reads one file; give the path of the file")
        return read_table_file(path, columns)
    folder = path if path.is_dir() else path.parent
    if chosen in ("atomic", "mmrec") and not interaction_files(folder):
        raise DataError(f"folder {folder.name} holds no .inter file, which format {chosen!r} needs; leave the format out")
    if chosen == "knowledge":
        return read_knowledge(folder)
    if chosen == "outfits":
        return read_polyvore(folder) if is_polyvore(folder) else read_ifashion(folder)
    if chosen == "impressions":
        return read_impressions(folder)
    return {"folder": read_folder, "atomic": read_atomic, "mmrec": read_mmrec}[chosen](folder, columns)


def _format_of(path: Path) -> Format:
    """What a path holds, by its name and the header of its ``.inter`` file."""
    if path.is_file() and not path.name.endswith((".inter", ".inter.gz")):
        if not path.name.endswith(TABLE_SUFFIXES):
            raise DataError(f"{path.name} is no table that can be read; expected a folder or one of {listed(TABLE_SUFFIXES)}")
        return "table"
    files = interaction_files(path if path.is_dir() else path.parent)
    if not files and is_impressions(path):
        return "impressions"
    if not files and (is_polyvore(path) or is_ifashion(path)):
        return "outfits"
    if not files:
        return "knowledge" if is_knowledge(path) else "folder"
    return "atomic" if ":" in first_line(files[0]) else "mmrec"


def with_titles(dataset: Dataset, column: str) -> Dataset:
    """Return a data set whose items are titled by one of their columns.

    Raises:
        DataError: There is no such column; the message lists those there are.
    """
    frame = dataset.attributes.get("item")
    if frame is None or column not in frame.columns:
        known = [] if frame is None else [str(name) for name in frame.columns]
        there = f"its columns are {listed(known)}" if known else "there is no table of items with columns of its own"
        raise DataError(f"{dataset.name}: items have no column {column!r} for title_column{nearest(column, known)}; {there}")
    return replace(dataset, attributes={**dataset.attributes, "item": frame.assign(title=frame[column])})
