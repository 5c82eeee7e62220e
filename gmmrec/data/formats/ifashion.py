"""Reader of iFashion outfits in their public format.

The files are ``outfit_data.txt`` (``outfit_id,item;item;…``), ``user_data.txt`` (``user_id,item;item;…,outfit_id``) and
``item_data.txt`` (``item_id,cate_id,pic_url,title``).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from gmmrec.data.files import read_text
from gmmrec.data.formats.outfits import build_outfits, category_features, exploded, with_validation
from gmmrec.data.tables import Tables
from gmmrec.errors import DataError, literal

IFASHION = ("outfit_data.txt", "user_data.txt", "item_data.txt")


def is_ifashion(folder: Path) -> bool:
    """Return whether a folder holds iFashion's outfits."""
    return (folder / IFASHION[0]).is_file()


def read_ifashion(folder: Path) -> Tables:
    """Read a data set of outfits in iFashion's format.

    Raises:
        DataError: A file is missing, or a line is malformed.
    """
    missing = [name for name in IFASHION if not (folder / name).is_file()]
    if missing:
        raise DataError(f"folder {folder.name} has {IFASHION[0]}, but no {missing[0]}; add it")
    known = _cells(folder / IFASHION[0], 2, "outfit_id,item;item;…")
    clicks = _cells(folder / IFASHION[1], 3, "user_id,item;item;…,outfit_id")
    catalogue = _cells(folder / IFASHION[2], 4, "item_id,cate_id,pic_url,title")
    catalogue.columns = pd.Index(["id", "category", "picture", "title"])
    if known[0].duplicated().any():
        raise DataError(
            f"{IFASHION[0]} has outfit {known[0][known[0].duplicated()].iloc[0]} more than once; keep one line per outfit"
        )
    if catalogue["id"].duplicated().any():
        repeated = catalogue["id"][catalogue["id"].duplicated()].iloc[0]
        raise DataError(f"{IFASHION[2]} has item {literal(repeated)} more than once; keep one line per item")
    unknown = ~clicks[2].isin(known[0])
    if unknown.any():
        raise DataError(f"{IFASHION[1]} names outfit {clicks[2][unknown].iloc[0]}, which {IFASHION[0]} does not list; add it")
    part = pd.Series(with_validation(np.zeros(len(known), np.int64)), known[0])  # one part per outfit, for all users
    content = known.set_index(0)[1]
    alone = known[~known[0].isin(clicks[2])]
    name = pd.concat([clicks[2], alone[0]], ignore_index=True)
    user = pd.concat([clicks[0], pd.Series([None] * len(alone), dtype=object)], ignore_index=True)
    history = exploded(clicks[1], ";")
    items = exploded(content.loc[name].reset_index(drop=True), ";")
    outfits, _, _ = build_outfits(folder, items, part.loc[name].to_numpy(), name, user, history)
    log: pd.DataFrame = pd.DataFrame(
        {
            "user": clicks[0].to_numpy()[history["group"]],
            "item": history["item"],
            "split": outfits.part[history["group"]].astype(np.int8),
        }
    )
    features = [category_features(catalogue, IFASHION[2])]
    return Tables(folder.resolve().name, log, {"item": catalogue}, features, frozenset({"user", "item"}), outfits=outfits)


def _cells(path: Path, count: int, form: str) -> pd.DataFrame:
    """Read a text table without quotes whose last column may hold the separator, without its header."""
    lines = pd.Series(read_text(path).splitlines())
    lines = lines[lines.str.strip() != ""].reset_index(drop=True)
    if lines[0].startswith(form.split(",")[0]):
        lines = lines.iloc[1:].reset_index(drop=True)
    frame: pd.DataFrame = lines.str.split(",", n=count - 1, expand=True)
    if frame.shape[1] < count or frame[count - 1].isna().any():
        short = int(frame[count - 1].isna().to_numpy().argmax()) if frame.shape[1] == count else 0
        raise DataError(f"{path.name} holds the line {literal(lines[short])}, but every line must be {form}; fix it")
    stripped: pd.DataFrame = frame.apply(lambda column: column.str.strip())
    return stripped
