"""Reader of a table of outfits, and functions shared by all readers of outfits.

``outfits.csv`` has one line per outfit, with its items in the column ``items``, separated by spaces, or in all lines by commas, or
by semicolons. Optional columns are ``outfit`` (id), ``user`` (the user it was made for), ``history`` (items of that user before,
oldest first, written like ``items``), ``text`` (text about the outfit) and ``split``. Without interactions, every outfit
interacts with its items as a user. An item may be written ``position:category``; its id is then ``OUTFIT_POSITION``,
``categories.csv`` names the categories, and ``fitb_test_derived.csv.gz`` with ``compatibility_test_derived.csv.gz`` may hold
evaluation tasks. The column ``category`` of ``items.csv`` gives the categories of items. ``outfits.txt`` is the column ``items``
alone.

Categories become a modality ``category`` of ones and zeros, so that items that occur in held-out outfits alone are known by their
category. Without a validation part, a tenth of the outfits is drawn for it from training, with a fixed seed.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.files import TABLE_SUFFIXES, location, read_table, read_text
from gmmrec.data.ids import raw_ids
from gmmrec.data.parts import PART_LABELS, TRAIN, SplitPart
from gmmrec.data.tables import RawFeatures, RawOutfits
from gmmrec.errors import DataError, literal, quote_names

logger = logging.getLogger(__name__)

HELD_OUT = {SplitPart.VALID: 0.1, SplitPart.TEST: 0.1}
"""Shares of the outfits held out without a given split."""
CELLS = 2**28
"""Maximum number of entries of the category modality; only the most frequent categories that fit get a column."""


def outfit_table(path: Path) -> tuple[RawOutfits, pd.DataFrame, pd.DataFrame | None]:
    """Read outfits, their interactions with the items, and a catalogue if items are written ``position:category``.

    Args:
        path: Table, or a text file with the items of one outfit per line.

    Raises:
        DataError: A column is missing, or an outfit has no items, a repeated item or an unknown part.
    """
    is_table = path.name.endswith(TABLE_SUFFIXES)
    frame = read_table(path) if is_table else pd.DataFrame({"items": [x for x in read_text(path).splitlines() if x.strip()]})
    if "items" not in frame:
        raise DataError(
            f"{path.name} has no column 'items' (its columns are {quote_names(frame.columns)}); add the items of every outfit"
        )
    if frame.empty:
        raise DataError(f"{path.name} holds no outfits below its header; export it again")
    name = raw_ids(frame["outfit"], path) if "outfit" in frame else pd.Series([str(row) for row in range(len(frame))])
    if name.duplicated().any():
        again = int(name.duplicated().to_numpy().argmax())
        first = int((name == name.iloc[again]).to_numpy().argmax())
        raise DataError(
            f"{location(path, again)} repeats outfit {literal(name.iloc[again])} of {location(path, first)}; give each its own id"
        )
    separator = _separator(frame["items"].fillna(""), path)
    items = exploded(frame["items"], separator)
    catalogue = None
    if items["item"].str.fullmatch(r"\d+:\d+").all():
        position = items["item"].str.split(":", expand=True)
        items["item"] = name.to_numpy()[items["group"]] + "_" + position[0]
        catalogue = pd.DataFrame({"id": items["item"], "category": position[1]})
    part = _parts(frame["split"], path) if "split" in frame else None
    user = frame.get("user")
    history = exploded(frame["history"].fillna(""), separator) if "history" in frame else None
    outfits, log, catalogue = build_outfits(path.parent, items, part, name, user, history, catalogue)
    return replace(outfits, text=frame.get("text")), log, catalogue


def build_outfits(
    folder: Path,
    items: pd.DataFrame,
    part: "NDArray[np.int64] | None",
    name: "pd.Series[str]",
    user: "pd.Series[str] | None" = None,
    history: pd.DataFrame | None = None,
    catalogue: pd.DataFrame | None = None,
) -> tuple[RawOutfits, pd.DataFrame, pd.DataFrame | None]:
    """Return checked outfits, their interactions with the items, and the catalogue with category names if the folder has them.

    Raises:
        DataError: An outfit has fewer than two items, or a repeated one.
    """
    counts = np.bincount(items["group"], minlength=len(name))
    if counts.min() < 2:
        raise DataError(f"outfit {name.iloc[int(counts.argmin())]} has {counts.min()} items, but needs at least two; remove it")
    repeated = items.duplicated().to_numpy()
    if repeated.any():
        row = items.iloc[int(repeated.argmax())]
        raise DataError(f"outfit {name.iloc[row['group']]} holds item {row['item']} twice; list every item once")
    part = with_validation(np.zeros(len(name), np.int64) if part is None else part)
    log: pd.DataFrame = pd.DataFrame(
        {"user": name.to_numpy()[items["group"]], "item": items["item"], "split": part[items["group"]].astype(np.int8)}
    )
    outfits = RawOutfits(items, part, user, history)
    task_paths = folder / "fitb_test_derived.csv.gz", folder / "compatibility_test_derived.csv.gz"
    if catalogue is not None and all(path.is_file() for path in task_paths):
        outfits = RawOutfits(items, part, user, history, *_derived(*task_paths, items))
    categories = folder / "categories.csv"
    if catalogue is not None and categories.is_file():
        names = read_table(categories).set_index("category")["name"]
        catalogue = catalogue.assign(title=catalogue["category"].map(names).fillna(catalogue["category"]))
    return outfits, log, catalogue


def category_features(catalogue: pd.DataFrame, source: str) -> RawFeatures:
    """Return the modality ``category``: one column of ones and zeros per category, missing for items without one."""
    categories = catalogue["category"]
    counts = categories.value_counts()
    limit = max(1, CELLS // max(1, len(catalogue)))
    if len(counts) > limit:
        logger.warning("%s: only the %d most frequent of %d categories get a column", source, limit, len(counts))
    positions = {category: position for position, category in enumerate(counts.index[:limit])}
    column = categories.map(positions).fillna(-1).astype(int).to_numpy()
    values = np.zeros((len(catalogue), min(limit, len(counts))), np.float16)
    values[np.flatnonzero(column >= 0), column[column >= 0]] = 1
    return RawFeatures("category", source, values, catalogue["id"], column >= 0)


def with_validation(part: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Return parts ``[N]`` with validation and test, each drawn from the training outfits if it is missing.

    >>> np.bincount(with_validation(np.zeros(100, dtype=int))).tolist()
    [80, 10, 10]
    """
    part, generator = part.copy(), np.random.default_rng(0)
    for held_out, share in HELD_OUT.items():
        if not (part == held_out.code).any():
            training = np.flatnonzero(part == TRAIN)
            part[generator.permutation(training)[: max(1, round(share * len(part)))]] = held_out.code
    return part


def _derived(blank_path: Path, set_path: Path, items: pd.DataFrame) -> tuple[tuple[pd.DataFrame, pd.DataFrame], pd.DataFrame]:
    """Read fill-in-the-blank tasks on named outfits, and compatibility tasks; items are written ``OUTFIT_POSITION:CATEGORY``."""
    frame = read_table(blank_path)
    candidates = exploded(frame["candidates"].str.replace(r":\d+", "", regex=True), " ")
    position = candidates.groupby("group").cumcount().to_numpy()
    candidates["relevant"] = position == frame["answer"].astype(int).to_numpy()[candidates["group"]]
    blank = frame["outfit"] + "_" + frame["blank_position"]
    wrong = ~candidates.loc[candidates["relevant"], "item"].reset_index(drop=True).eq(blank)
    if len(blank) != int(candidates["relevant"].sum()) or wrong.any():
        raise DataError(f"{blank_path.name} names an answer that is not the item at its blank_position; create the file again")
    outfit = items["item"].str.rsplit(pat="_", n=1).str[0]
    rest = pd.DataFrame({"outfit": frame["outfit"], "group": np.arange(len(frame))}).merge(
        pd.DataFrame({"outfit": outfit, "item": items["item"]}), on="outfit"
    )
    rest = rest[rest["item"] != blank.to_numpy()[rest["group"]]][["group", "item"]].sort_values("group", kind="stable")
    labelled = read_table(set_path)
    sets = exploded(labelled["items"].str.replace(r":\d+", "", regex=True), " ")
    sets["label"] = (labelled["label"] == "1").to_numpy()[sets["group"]]
    return (rest, candidates), sets


def _separator(cells: "pd.Series[str]", path: Path) -> str:
    """Return the separator of items: a comma or semicolon if it alone separates the ids of every cell, else a space."""
    for sign in ",;":
        if cells.str.fullmatch(rf"\s*[^\s,;]+(\s*{sign}\s*[^\s,;]+)+\s*").all():
            return sign
    odd = cells.str.contains(r"[,;]\s|\s[,;]|^\S*[,;]\S*$")
    if odd.any():
        raise DataError(
            f"{path.name} has the items {literal(cells[odd].iloc[0])}; "
            "separate ids by spaces in all lines, by commas in all lines, or by semicolons in all lines"
        )
    return " "


def exploded(column: "pd.Series[str]", separator: str | None) -> pd.DataFrame:
    """Return a table with one row per item: ``group`` (row of the column) and ``item``."""
    words = column.str.strip().str.split(separator).explode().str.strip()
    items: pd.DataFrame = pd.DataFrame({"group": words.index.to_numpy(), "item": words.to_numpy()})
    non_empty: pd.DataFrame = items[items["item"].fillna("") != ""].reset_index(drop=True)
    return non_empty


def _parts(labels: "pd.Series[str]", path: Path) -> "NDArray[np.int64]":
    codes = labels.astype(str).str.lower().map(PART_LABELS)
    if codes.isna().any():
        raise DataError(f"{path.name} has the split label {literal(labels[codes.isna()].iloc[0])}; use 'train', 'valid' and 'test'")
    return codes.to_numpy(np.int64)
