"""Reads the public form of Polyvore's outfits.

``train_no_dup.json``, ``valid_no_dup.json`` and ``test_no_dup.json`` hold outfits; questions about the test part are in
``fill_in_blank_test.json`` and ``fashion_compatibility_prediction.txt``, names of categories in ``category_id.txt``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmrec.data.errors import DataError, shown
from gmmrec.data.files import read_text
from gmmrec.data.formats.outfits import category_features, exploded, made
from gmmrec.data.parts import GIVEN_PARTS, SplitPart
from gmmrec.data.tables import RawOutfits, Tables

POLYVORE = "{}_no_dup.json"


def is_polyvore(folder: Path) -> bool:
    """Whether a folder holds Polyvore's training outfits."""
    return (folder / POLYVORE.format(SplitPart.TRAIN)).is_file()


def read_polyvore(folder: Path) -> Tables:
    """A data set of outfits in the public form of Polyvore.

    Raises:
        DataError: A file is missing, or an outfit or a question does not hold what it should.
    """
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
    features = [category_features(catalogue, POLYVORE.format(SplitPart.TRAIN))]
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
    found = exploded(cells[1], None)
    found["real"] = (cells[0] == "1").to_numpy()[found["group"]]
    return found


def _json(path: Path) -> list[Any]:
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name} is no JSON (line {error.lineno}: {error.msg}); download it again") from None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path.name} holds no list of outfits or questions; download it again")
    return found
