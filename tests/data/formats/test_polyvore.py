"""Reader of Polyvore outfits."""

import json
from pathlib import Path

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.errors import DataError
from tests.data.formats.test_outfits import lists_of, outfits_of


def polyvore(folder: Path) -> Path:
    """Write Polyvore's files: lists of outfits with all fields of the web site."""

    def outfit(number: int, *kinds: int) -> dict[str, object]:
        items = [
            {"index": n + 1, "name": f"thing {kind}", "price": 9.5, "likes": 3, "image": "http://x/y.jpg", "categoryid": kind}
            for n, kind in enumerate(kinds)
        ]
        return {
            "name": "n",
            "views": 1,
            "items": items,
            "image": "u",
            "likes": 2,
            "date": "d",
            "set_url": "s",
            "set_id": str(number),
            "desc": "",
        }

    parts = {"train": [outfit(11, 2, 3), outfit(12, 3, 4, 5)], "valid": [outfit(13, 2, 5)], "test": [outfit(14, 2, 3, 4)]}
    for part, sets in parts.items():
        (folder / f"{part}_no_dup.json").write_text(json.dumps(sets))
    blank = {"question": ["14_1", "14_3"], "blank_position": 2, "answers": ["14_2", "13_1", "12_2", "11_1"]}
    (folder / "fill_in_blank_test.json").write_text(json.dumps([blank]))
    (folder / "fashion_compatibility_prediction.txt").write_text("1 14_1 14_2 14_3\n0 13_1 12_2 \n")
    (folder / "category_id.txt").write_text("2 Clothing\n3 Day Dresses\n4 Skirts\n")
    return folder


def test_polyvore(tmp_path):
    dataset = load_dataset(str(polyvore(tmp_path)))
    assert outfits_of(dataset) == [["11_1", "11_2"], ["12_1", "12_2", "12_3"], ["13_1", "13_2"], ["14_1", "14_2", "14_3"]]
    assert dataset.outfits.part.tolist() == [0, 0, 1, 2]
    assert lists_of(dataset, dataset.outfits.fill_in_the_blank.items) == [["14_1", "14_3"]]
    assert lists_of(dataset, dataset.outfits.fill_in_the_blank.candidates) == [["14_2", "13_1", "12_2", "11_1"]]
    assert dataset.outfits.fill_in_the_blank.relevant.tolist() == [True, False, False, False]
    assert lists_of(dataset, dataset.outfits.compatibilities.items) == [["14_1", "14_2", "14_3"], ["13_1", "12_2"]]
    assert dataset.outfits.compatibilities.label.tolist() == [True, False]
    items = dataset.attributes["item"]
    assert items["title"].tolist()[:2] == ["thing 2", "thing 3"]
    assert items["category_name"].tolist()[:2] == ["Clothing", "Day Dresses"]
    assert dataset.features["category"].dim == 4
    assert len(set(dataset.outfits.category.tolist())) == 4
    split = split_dataset(dataset)
    assert (len(split.train), len(split.valid), len(split.test)) == (5, 2, 3)


def test_bad_files_of_polyvore(tmp_path):
    folder = polyvore(tmp_path)
    (folder / "fashion_compatibility_prediction.txt").write_text("1 14_1 14_2\nyes 13_1\n")
    with pytest.raises(DataError, match="line 2 is 'yes 13_1'"):
        load_dataset(str(folder))
    (folder / "fill_in_blank_test.json").write_text(json.dumps([{"question": ["14_1"], "answers": ["12_1", "13_1"]}]))
    with pytest.raises(DataError, match="entry 0 has 0 answers of the same outfit"):
        load_dataset(str(folder))
    (folder / "train_no_dup.json").write_text('[{"set_id": "1", "items": [{"name": "x"}]}]')
    with pytest.raises(DataError, match="an outfit without 'index'"):
        load_dataset(str(folder))
    (folder / "train_no_dup.json").write_text("[{")
    with pytest.raises(DataError, match="is not JSON"):
        load_dataset(str(folder))
    polyvore(tmp_path)
    (folder / "valid_no_dup.json").unlink()
    with pytest.raises(DataError, match=r"but no valid_no_dup\.json"):
        load_dataset(str(folder))


def test_a_set_in_two_parts_or_twice_in_one_is_named(tmp_path):
    folder = polyvore(tmp_path)
    train, test = (json.loads((folder / f"{part}_no_dup.json").read_text()) for part in ("train", "test"))
    (folder / "test_no_dup.json").write_text(json.dumps([*test, train[1]]))
    with pytest.raises(DataError, match=r"set 12 is in train_no_dup\.json and in test_no_dup\.json; keep it in one part, once"):
        load_dataset(str(folder))
    (folder / "test_no_dup.json").write_text(json.dumps([*test, test[0]]))
    with pytest.raises(DataError, match=r"set 14 is twice in test_no_dup\.json"):
        load_dataset(str(folder))


def test_categories_need_names(tmp_path):
    (polyvore(tmp_path) / "category_id.txt").write_text("2\n3\n")
    with pytest.raises(DataError, match=r"category_id\.txt names no categories"):
        load_dataset(str(tmp_path))
