"""Reader of Polyvore outfits in their public format.

``train_no_dup.json``, ``valid_no_dup.json`` and ``test_no_dup.json`` hold outfits, ``fill_in_blank_test.json`` and
``fashion_compatibility_prediction.txt`` evaluation tasks on the test part, ``category_id.txt`` names of categories.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.files import read_text
from gmmrec.data.formats.outfits import build_outfits, category_features, exploded
from gmmrec.data.parts import GIVEN_PARTS, SplitPart
from gmmrec.data.tables import RawOutfits, Tables
from gmmrec.errors import DataError, literal

POLYVORE = "{}_no_dup.json"


def is_polyvore(folder: Path) -> bool:
    """Return whether a folder holds Polyvore's training outfits."""
    return (folder / POLYVORE.format(SplitPart.TRAIN)).is_file()


def read_polyvore(folder: Path) -> Tables:
    """Read a data set of outfits in Polyvore's format.

    Raises:
        DataError: A file is missing, or an outfit or an evaluation task is malformed.
    """
    rows: list[tuple[int, str, str, str]] = []
    names: list[str] = []
    codes: list[int] = []
    seen: dict[str, str] = {}
    for part in GIVEN_PARTS:
        path = folder / POLYVORE.format(part)
        if not path.is_file():
            raise DataError(f"folder {folder.name} has {POLYVORE.format('train')}, but no {path.name}; add it")
        for outfit in _json(path):
            try:
                outfit_id = str(outfit["set_id"])
                rows += [
                    (len(names), f"{outfit_id}_{item['index']}", str(item["categoryid"]), str(item.get("name") or ""))
                    for item in outfit["items"]
                ]
            except (KeyError, TypeError) as error:
                raise DataError(f"{path.name} has an outfit without {error}; download the file again") from None
            if outfit_id in seen:
                where = f"twice in {path.name}" if seen[outfit_id] == path.name else f"in {seen[outfit_id]} and in {path.name}"
                raise DataError(f"set {outfit_id} is {where}; keep it in one part, once")
            seen[outfit_id] = path.name
            names.append(outfit_id)
            codes.append(part.code)
    table = pd.DataFrame(rows, columns=["group", "id", "category", "title"])
    items = table[["group", "id"]].rename(columns={"id": "item"})
    outfits, log, _ = build_outfits(folder, items, np.array(codes), pd.Series(names))
    fill_in_the_blank = compatibilities = None
    blank_path, set_path = folder / "fill_in_blank_test.json", folder / "fashion_compatibility_prediction.txt"
    if blank_path.is_file():
        fill_in_the_blank = _fill_in_the_blank(blank_path)
    if set_path.is_file():
        compatibilities = _compatibilities(set_path)
    outfits = RawOutfits(outfits.items, outfits.part, fill_in_the_blank=fill_in_the_blank, sets=compatibilities)
    catalogue = table[["id", "category", "title"]]
    listing = folder / "category_id.txt"
    if listing.is_file():
        lines = pd.Series(read_text(listing).splitlines()).str.strip().str.split(n=1, expand=True)
        if lines.shape[1] != 2:
            raise DataError(f"{listing.name} names no categories; every line must hold a number and a name")
        catalogue = catalogue.assign(category_name=catalogue["category"].map(dict(zip(lines[0], lines[1], strict=True))))
    features = [category_features(catalogue, POLYVORE.format(SplitPart.TRAIN))]
    return Tables(folder.resolve().name, log, {"item": catalogue}, features, frozenset({"user", "item"}), outfits=outfits)


def _fill_in_the_blank(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read fill-in-the-blank tasks; the relevant candidate is the one of the same outfit, by the outfit id in its id."""
    rest, candidates = [], []
    for number, blank in enumerate(_json(path)):
        try:
            question, answers = [str(i) for i in blank["question"]], [str(i) for i in blank["answers"]]
        except (KeyError, TypeError):
            raise DataError(f"{path.name} entry {number} lacks 'question' or 'answers'; download the file again") from None
        outfits = {item.rpartition("_")[0] for item in question}
        relevant = [answer.rpartition("_")[0] in outfits for answer in answers]
        if sum(relevant) != 1:
            raise DataError(f"{path.name} entry {number} has {sum(relevant)} answers of the same outfit, but needs one; remove it")
        rest += [(number, item) for item in question]
        candidates += [(number, answer, is_relevant) for answer, is_relevant in zip(answers, relevant, strict=True)]
    return pd.DataFrame(rest, columns=["group", "item"]), pd.DataFrame(candidates, columns=["group", "item", "relevant"])


def _compatibilities(path: Path) -> pd.DataFrame:
    lines = pd.Series(read_text(path).splitlines())
    lines = lines[lines.str.strip() != ""].reset_index(drop=True)
    cells = lines.str.split(n=1, expand=True)
    if cells.shape[1] != 2 or not cells[0].isin(["0", "1"]).all() or cells[1].isna().any():
        odd = int((~cells[0].isin(["0", "1"])).to_numpy().argmax()) if cells.shape[1] == 2 else 0
        raise DataError(f"{path.name} line {odd + 1} is {literal(lines[odd])}, but must be 1 or 0 and the items of a set; fix it")
    sets = exploded(cells[1], None)
    sets["label"] = (cells[0] == "1").to_numpy()[sets["group"]]
    return sets


def _json(path: Path) -> list[Any]:
    try:
        entries = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name} is not JSON (line {error.lineno}: {error.msg}); download it again") from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, and lists within lists
        raise DataError(f"{path.name} holds impossible numbers or is nested too deeply; download it again") from None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path.name} holds no list of outfits or tasks; download it again")
    return entries
