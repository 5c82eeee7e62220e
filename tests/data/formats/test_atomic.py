import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t3\t5\n2\t11\t4.5\t6\n"


def test_typed_headers(tmp_path):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.item").write_text(
        "item_id:token\tmovie_title:token_seq\tyear:float\timage:float_seq\n"
        '10\tA "quoted" film\t1995\t1 2\n11\tB\t\t\n12\tC\t1996\t3 4.5\n'
    )
    (tmp_path / "toy.user").write_text("user_id:token\tage:token\tclicks:float_seq\n2\t30\t7\n1\t40\t8\n")
    dataset = load_dataset(tmp_path)
    assert dataset.name == "toy"
    assert dataset.vocabularies["item"].ids() == [10, 11, 12]
    assert dataset.vocabularies["user"].ids() == [2, 1]
    assert dataset.interactions.user.tolist() == [1, 0]
    assert dataset.interactions.weight.tolist() == [3.0, 4.5]
    assert dataset.interactions.order.tolist() == [5, 6]
    assert dataset.attributes["item"]["title"].tolist() == ['A "quoted" film', "B", "C"]
    assert dataset.features["image"].values.tolist() == [[1.0, 2.0], [0.0, 0.0], [3.0, 4.5]]
    assert dataset.features["image"].mask.tolist() == [True, False, True]
    assert dataset.features["user_clicks"].values.tolist() == [[7.0], [8.0]]
    assert "image" not in dataset.attributes["item"]


def test_parts_give_a_split(tmp_path):
    header = "user_id:token\titem_id:token\n"
    for part, row in (("train", "1\t10"), ("valid", "1\t11"), ("test", "1\t12")):
        (tmp_path / f"toy.{part}.inter").write_text(f"{header}{row}\n")
    dataset = load_dataset(tmp_path)
    assert dataset.name == "toy"
    assert dataset.given_split.tolist() == [0, 1, 2]


def test_a_header_without_types(tmp_path):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.item").write_text("item_id\n10\n")
    with pytest.raises(DataError, match=r"toy\.item: column 'item_id' has no type; write it as 'item_id:token'"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("vectors", "complaint"),
    [
        (("1 2", "3"), "item '11' has 1 numbers in 'image', but the first has 2"),
        (("1 2", "3 x"), "does not hold lists of numbers"),
        (("", ""), "no vector"),
    ],
)
def test_invalid_vectors_are_refused(tmp_path, vectors, complaint):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.item").write_text(f"item_id:token\timage:float_seq\n10\t{vectors[0]}\n11\t{vectors[1]}\n")
    with pytest.raises(DataError, match=complaint):
        load_dataset(tmp_path)


def test_two_data_sets_in_one_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.inter").write_text(INTER)
    with pytest.raises(DataError, match=r"holds 2 data sets \(a, b\)"):
        load_dataset(tmp_path)


def test_bad_cells_are_named_by_line(tmp_path):
    (tmp_path / "toy.inter").write_text(INTER + "2\t12\thigh\t7\n")
    with pytest.raises(DataError, match=r"toy\.inter line 4 has 'high' in column 'rating'"):
        load_dataset(tmp_path)
