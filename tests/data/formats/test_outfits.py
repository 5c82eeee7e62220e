"""Outfits are read from a table, and from the public forms of Polyvore and iFashion, as these are written."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.errors import DataError
from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset


def outfits_of(dataset: Dataset) -> list[list[object]]:
    found = dataset.outfits.items
    return [dataset.vocabularies["item"].ids(found.take(torch.tensor([n])).values) for n in range(len(found))]


def lists_of(dataset: Dataset, lists) -> list[list[object]]:
    return [dataset.vocabularies["item"].ids(lists.take(torch.tensor([n])).values) for n in range(len(lists))]


def write_table(folder: Path, outfits: str, interactions: str | None = None, items: str | None = None) -> Path:
    (folder / "outfits.csv").write_text(outfits)
    if interactions is not None:
        (folder / "interactions.csv").write_text(interactions)
    if items is not None:
        (folder / "items.csv").write_text(items)
    return folder


def test_a_table_beside_interactions(tmp_path):
    write_table(
        tmp_path,
        "outfit,user,items,history,split\n1,ann,7 9,8,train\n2,,9 8 7,,valid\n3,bob,8 7,9 9,test\n",
        "user,item,split\nann,7,train\nann,9,valid\nbob,8,test\n",
        "item,category\n7,shoes\n8,hats\n9,\n",
    )
    dataset = load_dataset(str(tmp_path))
    assert outfits_of(dataset) == [[7, 9], [9, 8, 7], [8, 7]]
    assert dataset.outfits.part.tolist() == [0, 1, 2]
    assert dataset.outfits.user.tolist() == [0, -1, 1]
    assert lists_of(dataset, dataset.outfits.history) == [[8], [], [9, 9]]
    assert dataset.outfits.category.tolist() == [0, 1, -1]
    table = dataset.features["category"]
    assert table.present.tolist() == [True, True, False]
    assert table.values[:2].sum(1).tolist() == [1, 1]
    assert not torch.equal(table.values[0], table.values[1])
    assert split_dataset(dataset).outfits is dataset.outfits
    with pytest.raises(DataError, match="k_core would take items out"):
        load_dataset(str(tmp_path), k_core=2)


@pytest.mark.parametrize("form", ["{} {}  {}", "{},{},{}", "{}, {} ,{}", "{};{};{}"])
def test_items_have_blanks_commas_or_semicolons_between(tmp_path, form):
    outfits = [("a", "c", "b"), ("c", "b", "d")]
    lines = [f'"{form.format(*items)}","{form.format(*items[:1] * 3)}"' for items in outfits]
    log = "user,item\n" + "".join(f"u,{item}\n" for item in "abcd")
    dataset = load_dataset(str(write_table(tmp_path, "items,history\n" + "\n".join(lines) + "\n", log)))
    assert outfits_of(dataset) == [list(items) for items in outfits]
    assert lists_of(dataset, dataset.outfits.history) == [["a"] * 3, ["c"] * 3]


def test_ids_may_hold_commas_where_blanks_stand_between(tmp_path):
    dataset = load_dataset(str(write_table(tmp_path, 'items\n"a,1 b;2"\nc d\n"a,1 c"\n')))
    assert outfits_of(dataset) == [["a,1", "b;2"], ["c", "d"], ["a,1", "c"]]


def test_a_text_file_with_a_line_an_outfit(tmp_path):
    (tmp_path / "outfits.txt").write_text("7 9\n\n 9 8 7 \n8 7\n")
    (tmp_path / "items.csv").write_text("item,category\n7,shoes\n8,hats\n9,\n")
    dataset = load_dataset(str(tmp_path))
    assert outfits_of(dataset) == [[7, 9], [9, 8, 7], [8, 7]]
    assert dataset.outfits.category.tolist() == [0, 1, -1]


def test_outfits_alone_are_interactions_of_their_makers_and_a_tenth_validates(tmp_path):
    lines = [f"o{n},{n}:5 {n + 1}:7 {n + 2}:{n % 3},{'test' if n < 4 else 'train'}" for n in range(40)]
    write_table(tmp_path, "outfit,items,split\n" + "\n".join(lines) + "\n")
    (tmp_path / "categories.csv").write_text("category,name\n5,Dresses\n7,Hats\n")
    dataset = load_dataset(str(tmp_path))
    assert outfits_of(dataset)[0] == ["o0_0", "o0_1", "o0_2"]
    assert dataset.outfits.part.bincount().tolist() == [32, 4, 4]
    assert dataset.outfits.part[:4].tolist() == [2] * 4
    assert dataset.outfits.user is None
    assert len(dataset.interactions) == 120
    maker = dataset.vocabularies["user"].ids(dataset.interactions.user[:4])
    assert maker == ["o0", "o0", "o0", "o1"]
    parts = dataset.given_split.view(40, 3)
    assert torch.equal(parts[:, 0].long(), dataset.outfits.part)
    assert bool((parts == parts[:, :1]).all())
    assert dataset.attributes["item"]["title"].tolist()[:3] == ["Dresses", "Hats", "0"]


def test_questions_beside_a_table(tmp_path):
    write_table(tmp_path, "outfit,items,split\na,1:5 2:7 3:6,test\nb,1:5 2:6,test\nc,1:7 2:6,train\nd,1:5 2:6,train\n")
    blanks = "outfit,blank_position,candidates,answer\na,2,b_1:5 a_2:7 c_1:7 b_2:6,1\nb,1,b_1:5 a_1:5 a_2:7 a_3:6,0\n"
    sets = "label,items\n1,a_1:5 a_2:7 a_3:6\n0,b_1:5 a_2:7\n"
    for name, text in (("fitb_test_derived", blanks), ("compatibility_test_derived", sets)):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    found = load_dataset(str(tmp_path))
    assert lists_of(found, found.outfits.blanks.items) == [["a_1", "a_3"], ["b_2"]]
    assert lists_of(found, found.outfits.blanks.candidates) == [["b_1", "a_2", "c_1", "b_2"], ["b_1", "a_1", "a_2", "a_3"]]
    assert found.outfits.blanks.right.tolist() == [False, True, False, False, True, False, False, False]
    assert lists_of(found, found.outfits.compatibilities.items) == [["a_1", "a_2", "a_3"], ["b_1", "a_2"]]
    assert found.outfits.compatibilities.real.tolist() == [True, False]


def polyvore(folder: Path) -> Path:
    """Files as Polyvore's are: lists of sets with all that the web site said of them."""

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
    assert lists_of(dataset, dataset.outfits.blanks.items) == [["14_1", "14_3"]]
    assert lists_of(dataset, dataset.outfits.blanks.candidates) == [["14_2", "13_1", "12_2", "11_1"]]
    assert dataset.outfits.blanks.right.tolist() == [True, False, False, False]
    assert lists_of(dataset, dataset.outfits.compatibilities.items) == [["14_1", "14_2", "14_3"], ["13_1", "12_2"]]
    assert dataset.outfits.compatibilities.real.tolist() == [True, False]
    items = dataset.attributes["item"]
    assert items["title"].tolist()[:2] == ["thing 2", "thing 3"]
    assert items["category_name"].tolist()[:2] == ["Clothing", "Day Dresses"]
    assert dataset.features["category"].dim == 4
    assert len(set(dataset.outfits.category.tolist())) == 4
    split = split_dataset(dataset)
    assert (len(split.train), len(split.valid), len(split.test)) == (5, 2, 3)


def ifashion(folder: Path) -> Path:
    """Files as iFashion's are: text without quotes, titles with anything in them."""
    (folder / "outfit_data.txt").write_text("".join(f"o{n},i{n};i{n + 1};i{n + 2}\n" for n in range(20)))
    clicks = "".join(f"u{n % 5},i{n};i{(n + 7) % 20},o{n}\n" for n in range(0, 20, 2))
    (folder / "user_data.txt").write_text(clicks)
    (folder / "item_data.txt").write_text("".join(f"i{n},{50 + n % 4},http://p/{n}.jpg,red, long dress {n}\n" for n in range(22)))
    return folder


def test_ifashion(tmp_path):
    dataset = load_dataset(str(ifashion(tmp_path)))
    outfits = dataset.outfits
    assert outfits_of(dataset)[:2] == [["i0", "i1", "i2"], ["i2", "i3", "i4"]]
    assert len(outfits) == 20  # ten clicks, and the ten that nobody clicked on
    assert dataset.vocabularies["user"].ids(outfits.user[:3]) == ["u0", "u2", "u4"]
    assert outfits.user[10:].tolist() == [-1] * 10
    assert lists_of(dataset, outfits.history)[:2] == [["i0", "i7"], ["i2", "i9"]]
    assert not lists_of(dataset, outfits.history)[10]
    assert outfits.part.bincount().tolist() == [16, 2, 2]
    assert len(dataset.interactions) == 20
    assert dataset.attributes["item"]["title"].iloc[3] == "red, long dress 3"
    assert dataset.features["category"].dim == 4


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("outfit_data.txt", "o1;i1\n", "must be outfit_id,item"),
        ("user_data.txt", "u1,i1;i2,o99\n", "names outfit o99, which outfit_data.txt does not list"),
        ("outfit_data.txt", "o1,i1;i2\no1,i2;i3\n", "outfit o1 more than once"),
        ("item_data.txt", "i1,5,http://p\n", "must be item_id,cate_id,pic_url,title"),
        ("item_data.txt", "i1,5,http://p,t\n", "of which nothing else is known"),
        ("outfit_data.txt", "o0,i1\n", "needs two or more"),
    ],
)
def test_bad_lines_of_ifashion(tmp_path, file, text, message):
    folder = ifashion(tmp_path)
    if file == "outfit_data.txt":
        (folder / "user_data.txt").write_text("u1,i1,o1\n" if "o1," in text else "u1,i1,o0\n")
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(str(folder))


def test_bad_files_of_polyvore(tmp_path):
    folder = polyvore(tmp_path)
    (folder / "fashion_compatibility_prediction.txt").write_text("1 14_1 14_2\nyes 13_1\n")
    with pytest.raises(DataError, match="line 2 is 'yes 13_1'"):
        load_dataset(str(folder))
    (folder / "fill_in_blank_test.json").write_text(json.dumps([{"question": ["14_1"], "answers": ["12_1", "13_1"]}]))
    with pytest.raises(DataError, match="question 0 has 0 answers of its own outfit"):
        load_dataset(str(folder))
    (folder / "train_no_dup.json").write_text('[{"set_id": "1", "items": [{"name": "x"}]}]')
    with pytest.raises(DataError, match="an outfit without 'index'"):
        load_dataset(str(folder))
    (folder / "train_no_dup.json").write_text("[{")
    with pytest.raises(DataError, match="is no JSON"):
        load_dataset(str(folder))
    polyvore(tmp_path)
    (folder / "valid_no_dup.json").unlink()
    with pytest.raises(DataError, match=r"but no valid_no_dup\.json"):
        load_dataset(str(folder))


@pytest.mark.parametrize(
    ("outfits", "message"),
    [
        ("outfit,things\n1,a b\n", "no column 'items'"),
        ("outfit,items\n1,a\n", "outfit 1 has 1 items"),
        ("outfit,items\n1,a b a\n", "holds item a twice"),
        ('items\n"a,b"\na b\n', "has the items 'a,b'; put blanks between ids in all lines, or commas"),
        ('items\n"a, b"\n"a,b;c"\n', "has the items 'a, b'"),
        ('items\na b\n"a ;b c"\n', "has the items 'a ;b c'"),
        ('items\n"a,b"\n"b,c,"\n', "has the items 'a,b'"),
        ("outfit,items,split\n1,a b,later\n", "the split 'later'"),
        ("outfit,items,user\n1,a b,u\n", r"no interactions\.csv of theirs"),
        ("outfit,items\n", "no outfits below its header"),
    ],
)
def test_bad_tables(tmp_path, outfits, message):
    with pytest.raises(DataError, match=message):
        load_dataset(str(write_table(tmp_path, outfits)))


def test_items_that_nobody_knows(tmp_path):
    write_table(tmp_path, "outfit,items\n1,a b\n", "user,item\nu,a\n")
    with pytest.raises(DataError, match="holds item 'b', of which nothing else is known"):
        load_dataset(str(tmp_path))
