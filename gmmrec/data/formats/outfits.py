"""Reads a table of outfits beside any interactions, and makes what all readers of outfits need.

``outfits.csv`` in a folder: a line an outfit, its items in the column ``items`` with blanks between, or in every line with
commas, or with semicolons; where known ``outfit`` (its id), ``user`` (for whom), ``history`` (what that user had taken before,
oldest first, written as ``items`` are), ``text`` (what was written about it) and ``split``. Without interactions, every outfit
interacts with its items as their maker. An item may be written ``position:category``; it is then called ``OUTFIT_POSITION``,
``categories.csv`` names the categories, and ``fitb_test_derived.csv.gz`` with ``compatibility_test_derived.csv.gz`` may hold
questions. The column ``category`` of ``items.csv`` says of what kind items are. ``outfits.txt`` is the column ``items`` alone.

Kinds of items become a modality ``category`` of ones and zeros, so that items of held-out outfits, of which nothing was learned,
are known by their kind. Where no outfit validates, a tenth of the training outfits does, drawn with a fixed seed.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.errors import DataError, listed, shown
from gmmrec.data.files import TABLE_SUFFIXES, read_table, read_text
from gmmrec.data.parts import PART_LABELS, TRAIN, SplitPart
from gmmrec.data.tables import RawFeatures, RawOutfits

logger = logging.getLogger(__name__)

HELD_OUT = {SplitPart.VALID: 0.1, SplitPart.TEST: 0.1}
"""Shares of the outfits that are held out where the source does not say which."""
CELLS = 2**28
"""Most ones and zeros of the modality of categories; of more categories than fit, the most frequent ones are told apart."""


def outfit_table(path: Path) -> tuple[RawOutfits, pd.DataFrame, pd.DataFrame | None]:
    """Outfits from a table, the interactions of their makers, and the items where these are written ``position:category``.

    Args:
        path: The table, or a text file with the items of an outfit in every line.

    Raises:
        DataError: A column is missing, or an outfit has no items, one of them twice, or an unknown part.
    """
    is_table = path.name.endswith(TABLE_SUFFIXES)
    frame = read_table(path) if is_table else pd.DataFrame({"items": [x for x in read_text(path).splitlines() if x.strip()]})
    if "items" not in frame:
        raise DataError(f"{path.name} has no column 'items' with the items of every outfit, but {listed(frame.columns)}; add it")
    if frame.empty:
        raise DataError(f"{path.name} holds no outfits below its header; export it again")
    name = frame["outfit"] if "outfit" in frame else pd.Series([str(row) for row in range(len(frame))])
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
    outfits, makers, catalogue = made(path.parent, items, part, name, user, history, catalogue)
    return replace(outfits, text=frame.get("text")), makers, catalogue


def made(
    folder: Path,
    items: pd.DataFrame,
    part: "NDArray[np.int64] | None",
    name: "pd.Series[str]",
    user: "pd.Series[str] | None" = None,
    history: pd.DataFrame | None = None,
    catalogue: pd.DataFrame | None = None,
) -> tuple[RawOutfits, pd.DataFrame, pd.DataFrame | None]:
    """Checked outfits, their makers' interactions, and the catalogue with names of categories where the folder has them.

    Raises:
        DataError: An outfit has less than two items, or one twice.
    """
    counts = np.bincount(items["group"], minlength=len(name))
    if counts.min() < 2:
        raise DataError(f"outfit {name.iloc[int(counts.argmin())]} has {counts.min()} items, but needs two or more; leave it out")
    again = items.duplicated().to_numpy()
    if again.any():
        row = items.iloc[int(again.argmax())]
        raise DataError(f"outfit {name.iloc[row['group']]} holds item {row['item']} twice; write every item once")
    part = with_validation(np.zeros(len(name), np.int64) if part is None else part)
    makers: pd.DataFrame = pd.DataFrame(
        {"user": name.to_numpy()[items["group"]], "item": items["item"], "split": part[items["group"]].astype(np.int8)}
    )
    outfits = RawOutfits(items, part, user, history)
    questions = folder / "fitb_test_derived.csv.gz", folder / "compatibility_test_derived.csv.gz"
    if catalogue is not None and all(path.is_file() for path in questions):
        outfits = RawOutfits(items, part, user, history, *_derived(*questions, items))
    names = folder / "categories.csv"
    if catalogue is not None and names.is_file():
        named = read_table(names).set_index("category")["name"]
        catalogue = catalogue.assign(title=catalogue["category"].map(named).fillna(catalogue["category"]))
    return outfits, makers, catalogue


def category_features(catalogue: pd.DataFrame, source: str) -> RawFeatures:
    """The modality ``category``: a column of ones and zeros for each kind of items; nothing for items of unknown kind."""
    kinds = catalogue["category"]
    known = kinds.value_counts()
    most = max(1, CELLS // max(1, len(catalogue)))
    if len(known) > most:
        logger.warning("%s: only the %d most frequent of %d categories are told apart", source, most, len(known))
    column = kinds.map({kind: position for position, kind in enumerate(known.index[:most])}).fillna(-1).astype(int).to_numpy()
    values = np.zeros((len(catalogue), min(most, len(known))), np.float16)
    values[np.flatnonzero(column >= 0), column[column >= 0]] = 1
    return RawFeatures("category", source, values, catalogue["id"], column >= 0)


def with_validation(part: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Parts ``[N]`` in which some outfits validate, and some test: shares of the training outfits where none did.

    >>> np.bincount(with_validation(np.zeros(100, dtype=int))).tolist()
    [80, 10, 10]
    """
    part, generator = part.copy(), np.random.default_rng(0)
    for held_out, share in HELD_OUT.items():
        if not (part == held_out.code).any():
            training = np.flatnonzero(part == TRAIN)
            part[generator.permutation(training)[: max(1, round(share * len(part)))]] = held_out.code
    return part


def _derived(blanks: Path, sets: Path, items: pd.DataFrame) -> tuple[tuple[pd.DataFrame, pd.DataFrame], pd.DataFrame]:
    """Questions whose outfit is named, and sets; ``OUTFIT_POSITION:CATEGORY`` is an item."""
    frame = read_table(blanks)
    asked = exploded(frame["candidates"].str.replace(r":\d+", "", regex=True), " ")
    position = asked.groupby("group").cumcount().to_numpy()
    asked["right"] = position == frame["answer"].astype(int).to_numpy()[asked["group"]]
    blank = frame["outfit"] + "_" + frame["blank_position"]
    wrong = ~asked.loc[asked["right"], "item"].reset_index(drop=True).eq(blank)
    if len(blank) != int(asked["right"].sum()) or wrong.any():
        raise DataError(f"{blanks.name} names an answer that is not the item of its blank_position; draw the questions again")
    outfit = items["item"].str.rsplit(pat="_", n=1).str[0]
    rest = pd.DataFrame({"outfit": frame["outfit"], "group": np.arange(len(frame))}).merge(
        pd.DataFrame({"outfit": outfit, "item": items["item"]}), on="outfit"
    )
    rest = rest[rest["item"] != blank.to_numpy()[rest["group"]]][["group", "item"]].sort_values("group", kind="stable")
    judged = read_table(sets)
    whole = exploded(judged["items"].str.replace(r":\d+", "", regex=True), " ")
    whole["real"] = (judged["label"] == "1").to_numpy()[whole["group"]]
    return (rest, asked), whole


def _separator(cells: "pd.Series[str]", path: Path) -> str:
    """What stands between items: a comma or a semicolon, where every cell has it, and no other, between ids; else blanks."""
    for sign in ",;":
        if cells.str.fullmatch(rf"\s*[^\s,;]+(\s*{sign}\s*[^\s,;]+)+\s*").all():
            return sign
    odd = cells.str.contains(r"[,;]\s|\s[,;]|^\S*[,;]\S*$")
    if odd.any():
        raise DataError(
            f"{path.name} has the items {shown(cells[odd].iloc[0])}; put blanks between ids in all lines, or commas in all lines, "
            "or semicolons"
        )
    return " "


def exploded(column: "pd.Series[str]", separator: str | None) -> pd.DataFrame:
    """One row an item: ``group`` (row of the column) and ``item``."""
    parts = column.str.strip().str.split(separator).explode().str.strip()
    found: pd.DataFrame = pd.DataFrame({"group": parts.index.to_numpy(), "item": parts.to_numpy()})
    there: pd.DataFrame = found[found["item"].fillna("") != ""].reset_index(drop=True)
    return there


def _parts(labels: "pd.Series[str]", path: Path) -> "NDArray[np.int64]":
    found = labels.astype(str).str.lower().map(PART_LABELS)
    if found.isna().any():
        raise DataError(f"{path.name} has the split {shown(labels[found.isna()].iloc[0])}; use train, valid and test")
    return found.to_numpy(np.int64)
