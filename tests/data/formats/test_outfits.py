"""Reader of outfit tables."""

import gzip
from pathlib import Path

import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.load import load_dataset
from gmmrec.data.split import split_dataset
from gmmrec.errors import DataError


def outfits_of(dataset: Dataset) -> list[list[object]]:
    outfits = dataset.outfits.items
    return [dataset.vocabularies["item"].ids(outfits.take(torch.tensor([n])).values) for n in range(len(outfits))]


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
    with pytest.raises(DataError, match="k_core would remove items"):
        load_dataset(str(tmp_path), k_core=2)


@pytest.mark.parametrize("form", ["{} {}  {}", "{},{},{}", "{}, {} ,{}", "{};{};{}"])
def test_items_are_separated_by_spaces_commas_or_semicolons(tmp_path, form):
    outfits = [("a", "c", "b"), ("c", "b", "d")]
    lines = [f'"{form.format(*items)}","{form.format(*items[:1] * 3)}"' for items in outfits]
    log = "user,item\n" + "".join(f"u,{item}\n" for item in "abcd")
    dataset = load_dataset(str(write_table(tmp_path, "items,history\n" + "\n".join(lines) + "\n", log)))
    assert outfits_of(dataset) == [list(items) for items in outfits]
    assert lists_of(dataset, dataset.outfits.history) == [["a"] * 3, ["c"] * 3]


def test_ids_separated_by_spaces_may_hold_commas(tmp_path):
    dataset = load_dataset(str(write_table(tmp_path, 'items\n"a,1 b;2"\nc d\n"a,1 c"\n')))
    assert outfits_of(dataset) == [["a,1", "b;2"], ["c", "d"], ["a,1", "c"]]


def test_a_text_file_with_one_outfit_per_line(tmp_path):
    (tmp_path / "outfits.txt").write_text("7 9\n\n 9 8 7 \n8 7\n")
    (tmp_path / "items.csv").write_text("item,category\n7,shoes\n8,hats\n9,\n")
    dataset = load_dataset(str(tmp_path))
    assert outfits_of(dataset) == [[7, 9], [9, 8, 7], [8, 7]]
    assert dataset.outfits.category.tolist() == [0, 1, -1]


def test_outfits_alone_interact_with_their_items_and_a_tenth_is_for_validation(tmp_path):
    lines = [f"o{n},{n}:5 {n + 1}:7 {n + 2}:{n % 3},{'test' if n < 4 else 'train'}" for n in range(40)]
    write_table(tmp_path, "outfit,items,split\n" + "\n".join(lines) + "\n")
    (tmp_path / "categories.csv").write_text("category,name\n5,Dresses\n7,Hats\n")
    dataset = load_dataset(str(tmp_path))
    assert outfits_of(dataset)[0] == ["o0_0", "o0_1", "o0_2"]
    assert dataset.outfits.part.bincount().tolist() == [32, 4, 4]
    assert dataset.outfits.part[:4].tolist() == [2] * 4
    assert dataset.outfits.user is None
    assert len(dataset.interactions) == 120
    users = dataset.vocabularies["user"].ids(dataset.interactions.user[:4])
    assert users == ["o0", "o0", "o0", "o1"]
    parts = dataset.given_split.view(40, 3)
    assert torch.equal(parts[:, 0].long(), dataset.outfits.part)
    assert bool((parts == parts[:, :1]).all())
    assert dataset.attributes["item"]["title"].tolist()[:3] == ["Dresses", "Hats", "0"]


def test_evaluation_tasks_beside_a_table(tmp_path):
    write_table(tmp_path, "outfit,items,split\na,1:5 2:7 3:6,test\nb,1:5 2:6,test\nc,1:7 2:6,train\nd,1:5 2:6,train\n")
    fill_in_the_blank = "outfit,blank_position,candidates,answer\na,2,b_1:5 a_2:7 c_1:7 b_2:6,1\nb,1,b_1:5 a_1:5 a_2:7 a_3:6,0\n"
    compatibility = "label,items\n1,a_1:5 a_2:7 a_3:6\n0,b_1:5 a_2:7\n"
    for name, text in (("fitb_test_derived", fill_in_the_blank), ("compatibility_test_derived", compatibility)):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    dataset = load_dataset(str(tmp_path))
    given = dataset.outfits.fill_in_the_blank
    assert lists_of(dataset, given.items) == [["a_1", "a_3"], ["b_2"]]
    assert lists_of(dataset, given.candidates) == [
        ["b_1", "a_2", "c_1", "b_2"],
        ["b_1", "a_1", "a_2", "a_3"],
    ]
    assert given.relevant.tolist() == [False, True, False, False, True, False, False, False]
    assert lists_of(dataset, dataset.outfits.compatibilities.items) == [["a_1", "a_2", "a_3"], ["b_1", "a_2"]]
    assert dataset.outfits.compatibilities.label.tolist() == [True, False]


@pytest.mark.parametrize(
    ("outfits", "message"),
    [
        ("outfit,things\n1,a b\n", "no column 'items'"),
        ("outfit,items\n1,a\n", "outfit 1 has 1 items"),
        ("outfit,items\n1,a b a\n", "holds item a twice"),
        ('items\n"a,b"\na b\n', "has the items 'a,b'; separate ids by spaces in all lines, by commas"),
        ('items\n"a, b"\n"a,b;c"\n', "has the items 'a, b'"),
        ('items\na b\n"a ;b c"\n', "has the items 'a ;b c'"),
        ('items\n"a,b"\n"b,c,"\n', "has the items 'a,b'"),
        ("outfit,items,split\n1,a b,later\n", "the split label 'later'"),
        ("outfit,items,user\n1,a b,u\n", r"no interactions\.csv with their log"),
        ("outfit,items\n", "no outfits below its header"),
        ("outfit,items\n1,a b\n2,c d\n1,c d\n", r"outfits\.csv line 4 repeats outfit '1' of outfits\.csv line 2"),
        ("outfit,items\n1,a b\n,c d\n", r"outfits\.csv line 3 has no value in column 'outfit'"),
    ],
)
def test_bad_tables(tmp_path, outfits, message):
    with pytest.raises(DataError, match=message):
        load_dataset(str(write_table(tmp_path, outfits)))


def test_unknown_items_are_refused(tmp_path):
    write_table(tmp_path, "outfit,items\n1,a b\n", "user,item\nu,a\n")
    with pytest.raises(DataError, match="holds the unknown item 'b'"):
        load_dataset(str(tmp_path))
