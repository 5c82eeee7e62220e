"""Reads outfits: a table of them beside any interactions, and the public forms of Polyvore and of iFashion.

- ``outfits.csv`` in a folder: a line an outfit, its items in the column ``items`` with blanks between, or in every line with
  commas, or with semicolons; where known ``outfit`` (its id), ``user`` (for whom), ``history`` (what that user had taken before,
  oldest first, written as ``items`` are), ``text`` (what was written about it) and ``split``. Without interactions, every outfit
  interacts with its items as their maker. An item may be written ``position:category``; it is then called ``OUTFIT_POSITION``,
  ``categories.csv`` names the categories, and ``fitb_test_derived.csv.gz`` with ``compatibility_test_derived.csv.gz`` may hold
  questions. The column ``category`` of ``items.csv`` says of what kind items are. ``outfits.txt`` is the column ``items`` alone.
- Polyvore: ``train_no_dup.json``, ``valid_no_dup.json``, ``test_no_dup.json``, ``fill_in_blank_test.json``,
  ``fashion_compatibility_prediction.txt``, ``category_id.txt``.
- iFashion: ``outfit_data.txt`` (``outfit_id,item;item;…``), ``user_data.txt`` (``user_id,item;item;…,outfit_id``) and
  ``item_data.txt`` (``item_id,cate_id,pic_url,title``).

Kinds of items become a modality ``category`` of ones and zeros, so that items of held-out outfits, of which nothing was learned,
are known by their kind. Where no outfit validates, a tenth of the training outfits does, drawn with a fixed seed.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.data.errors import DataError, listed, shown
from gmmrec.data.files import TABLE_SUFFIXES, read_table, read_text
from gmmrec.data.parts import GIVEN_PARTS, PART_LABELS, TRAIN, SplitPart
from gmmrec.data.tables import RawFeatures, RawOutfits, Tables

logger = logging.getLogger(__name__)

POLYVORE = "{}_no_dup.json"
IFASHION = ("outfit_data.txt", "user_data.txt", "item_data.txt")
HELD_OUT = {SplitPart.VALID: 0.1, SplitPart.TEST: 0.1}
"""Shares of the outfits that are held out where the source does not say which."""
CELLS = 2**28
"""Most ones and zeros of the modality of categories; of more categories than fit, the most frequent ones are told apart."""


def is_outfits(folder: Path) -> bool:
    """Whether a folder holds outfits in a public form, or a table of outfits and nothing that users did."""
    return any((folder / name).is_file() for name in (POLYVORE.format("train"), IFASHION[0]))


def read_outfits(folder: Path) -> Tables:
    """A data set of outfits in a public form.

    Raises:
        DataError: A file is missing, or a line does not hold what it should.
    """
    return _read_polyvore(folder) if (folder / POLYVORE.format("train")).is_file() else _read_ifashion(folder)


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
    items = _exploded(frame["items"], separator)
    catalogue = None
    if items["item"].str.fullmatch(r"\d+:\d+").all():
        place = items["item"].str.split(":", expand=True)
        items["item"] = name.to_numpy()[items["group"]] + "_" + place[0]
        catalogue = pd.DataFrame({"id": items["item"], "category": place[1]})
    part = _parts(frame["split"], path) if "split" in frame else None
    user = frame.get("user")
    history = _exploded(frame["history"].fillna(""), separator) if "history" in frame else None
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
    column = kinds.map({kind: place for place, kind in enumerate(known.index[:most])}).fillna(-1).astype(int).to_numpy()
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
    asked = _exploded(frame["candidates"].str.replace(r":\d+", "", regex=True), " ")
    place = asked.groupby("group").cumcount().to_numpy()
    asked["right"] = place == frame["answer"].astype(int).to_numpy()[asked["group"]]
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
    whole = _exploded(judged["items"].str.replace(r":\d+", "", regex=True), " ")
    whole["real"] = (judged["label"] == "1").to_numpy()[whole["group"]]
    return (rest, asked), whole


def _read_polyvore(folder: Path) -> Tables:
    rows: list[tuple[int, str, str, str]] = []
    names: list[str] = []
    part: list[int] = []
    for piece in GIVEN_PARTS:
        path = folder / POLYVORE.format(piece)
        if not path.is_file():
            raise DataError(f"folder {folder.name} has {POLYVORE.format('train')}, but no {path.name}; add it")
        for outfit in _json(path):
            try:
                own = str(outfit["set_id"])
                rows += [
                    (len(names), f"{own}_{item['index']}", str(item["categoryid"]), str(item.get("name") or ""))
                    for item in outfit["items"]
                ]
            except (KeyError, TypeError) as error:
                raise DataError(f"{path.name} has an outfit without {error}; expected 'set_id', and items with 'index'") from None
            names.append(own)
            part.append(piece.code)
    table = pd.DataFrame(rows, columns=["group", "id", "category", "title"])
    items = table[["group", "id"]].rename(columns={"id": "item"})
    outfits, makers, _ = made(folder, items, np.array(part), pd.Series(names))
    blanks = sets = None
    questions, judged = folder / "fill_in_blank_test.json", folder / "fashion_compatibility_prediction.txt"
    if questions.is_file():
        blanks = _polyvore_blanks(questions)
    if judged.is_file():
        sets = _polyvore_sets(judged)
    outfits = RawOutfits(outfits.items, outfits.part, blanks=blanks, sets=sets)
    catalogue = table[["id", "category", "title"]]
    listing = folder / "category_id.txt"
    if listing.is_file():
        lines = pd.Series(read_text(listing).splitlines()).str.strip().str.split(n=1, expand=True)
        catalogue = catalogue.assign(category_name=catalogue["category"].map(dict(zip(lines[0], lines[1], strict=True))))
    features = [category_features(catalogue, POLYVORE.format("train"))]
    return Tables(folder.resolve().name, makers, {"item": catalogue}, features, frozenset({"user", "item"}), outfits=outfits)


def _polyvore_blanks(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The right answer is the one of the outfit itself: ids begin with the outfit's."""
    rest, asked = [], []
    for number, blank in enumerate(_json(path)):
        try:
            question, answers = [str(i) for i in blank["question"]], [str(i) for i in blank["answers"]]
        except (KeyError, TypeError):
            raise DataError(f"{path.name} question {number} lacks 'question' or 'answers'; download the file again") from None
        own = {item.rpartition("_")[0] for item in question}
        right = [answer.rpartition("_")[0] in own for answer in answers]
        if sum(right) != 1:
            raise DataError(
                f"{path.name} question {number} has {sum(right)} answers of its own outfit, but needs one; leave it out"
            )
        rest += [(number, item) for item in question]
        asked += [(number, answer, is_own) for answer, is_own in zip(answers, right, strict=True)]
    return pd.DataFrame(rest, columns=["group", "item"]), pd.DataFrame(asked, columns=["group", "item", "right"])


def _polyvore_sets(path: Path) -> pd.DataFrame:
    lines = pd.Series(read_text(path).splitlines())
    lines = lines[lines.str.strip() != ""].reset_index(drop=True)
    cells = lines.str.split(n=1, expand=True)
    if cells.shape[1] != 2 or not cells[0].isin(["0", "1"]).all() or cells[1].isna().any():
        odd = int((~cells[0].isin(["0", "1"])).to_numpy().argmax()) if cells.shape[1] == 2 else 0
        raise DataError(f"{path.name} line {odd + 1} is {shown(lines[odd])}, but must be 1 or 0 and the items of a set")
    found = _exploded(cells[1], None)
    found["real"] = (cells[0] == "1").to_numpy()[found["group"]]
    return found


def _read_ifashion(folder: Path) -> Tables:
    missing = [name for name in IFASHION if not (folder / name).is_file()]
    if missing:
        raise DataError(f"folder {folder.name} has {IFASHION[0]}, but no {missing[0]}; add it")
    known = _cells(folder / IFASHION[0], 2, "outfit_id,item;item;…")
    clicks = _cells(folder / IFASHION[1], 3, "user_id,item;item;…,outfit_id")
    catalogue = _cells(folder / IFASHION[2], 4, "item_id,cate_id,pic_url,title")
    catalogue.columns = pd.Index(["id", "category", "picture", "title"])
    if known[0].duplicated().any():
        raise DataError(
            f"{IFASHION[0]} has outfit {known[0][known[0].duplicated()].iloc[0]} more than once; keep one line for each"
        )
    strange = ~clicks[2].isin(known[0])
    if strange.any():
        raise DataError(f"{IFASHION[1]} names outfit {clicks[2][strange].iloc[0]}, which {IFASHION[0]} does not list; add it")
    part = pd.Series(with_validation(np.zeros(len(known), np.int64)), known[0])  # an outfit is in one part, whoever clicked on it
    content = known.set_index(0)[1]
    alone = known[~known[0].isin(clicks[2])]
    name = pd.concat([clicks[2], alone[0]], ignore_index=True)
    user = pd.concat([clicks[0], pd.Series([None] * len(alone), dtype=object)], ignore_index=True)
    history = _exploded(clicks[1], ";")
    items = _exploded(content.loc[name].reset_index(drop=True), ";")
    outfits, _, _ = made(folder, items, part.loc[name].to_numpy(), name, user, history)
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
    """A text table without quotes whose last column may hold the separator; a header is passed over."""
    lines = pd.Series(read_text(path).splitlines())
    lines = lines[lines.str.strip() != ""].reset_index(drop=True)
    if lines[0].startswith(form.split(",")[0]):
        lines = lines.iloc[1:].reset_index(drop=True)
    frame: pd.DataFrame = lines.str.split(",", n=count - 1, expand=True)
    if frame.shape[1] < count or frame[count - 1].isna().any():
        short = int(frame[count - 1].isna().to_numpy().argmax()) if frame.shape[1] == count else 0
        raise DataError(f"{path.name} holds the line {shown(lines[short])}, but a line must be {form}")
    return frame


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


def _exploded(column: "pd.Series[str]", separator: str | None) -> pd.DataFrame:
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


def _json(path: Path) -> list[Any]:
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name} is no JSON (line {error.lineno}: {error.msg}); download it again") from None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path.name} holds no list of outfits or questions; download it again")
    return found
