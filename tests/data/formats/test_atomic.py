import gzip

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


def vectors(dataset, modality, kind):
    table = dataset.features[modality]
    return dict(zip(dataset.vocabularies[kind].ids(), table.values.tolist(), strict=True))


def test_vectors_of_items_and_users_are_modalities(tmp_path):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.itememb").write_text("iid:token\titem_emb:float_seq\n11\t0.5 2\n10\t3 4\n")
    (tmp_path / "toy.useremb.gz").write_bytes(gzip.compress(b"uid:token\tuser_emb:float_seq\tage:float_seq\n1\t7\t30\n2\t8\t40\n"))
    dataset = load_dataset(tmp_path)
    assert vectors(dataset, "item_emb", "item") == {11: [0.5, 2.0], 10: [3.0, 4.0]}
    assert vectors(dataset, "user_emb", "user") == {1: [7.0], 2: [8.0]}
    assert vectors(dataset, "user_age", "user") == {1: [30.0], 2: [40.0]}
    assert dataset.unread.files == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("iid:token\titem_emb:float_seq\n10\t1\n10\t2\n", "toy.itememb has id '10' more than once"),
        ("iid:token\n10\n", "must have one of ids and one or more of type float_seq"),
        ("iid:token\tb:token\tv:float_seq\n10\t1\t2\n", "must have one of ids"),
        ("iid:token\tv:float_seq\n10\t1 2\n11\t3\n", "item '11' has 1 numbers in 'v', but the first has 2"),
        ("iid:token\timage:float_seq\n10\t1 2\n", "two columns of vectors in folder .* are the modality 'image'"),
        ("iid:token\tv:float_seq\nX1\t1 2\n", "no id of toy.itememb .such as 'X1'. occurs among the 2 items"),
    ],
)
def test_invalid_tables_of_vectors_are_refused(tmp_path, text, complaint):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.item").write_text("item_id:token\timage:float_seq\n10\t1 2\n")
    (tmp_path / "toy.itememb").write_text(text)
    with pytest.raises(DataError, match=complaint):
        load_dataset(tmp_path)


def test_files_that_are_not_read_are_named(tmp_path, caplog):
    (tmp_path / "toy.inter").write_text(INTER)
    (tmp_path / "toy.net").write_text("source_id:token\ttarget_id:token\n1\t2\n")
    (tmp_path / "toy.link").write_text("item_id:token\tentity_id:token\n10\tm.1\n")
    assert load_dataset(tmp_path).unread.files == ["toy.link", "toy.net"]
    assert "toy.link, toy.net are not read" in caplog.text


@pytest.mark.parametrize("separator", [",", " ", ";", "|", "::"])
def test_other_separators_stand_in_the_header(tmp_path, separator):
    """RecBole's setting field_separator."""
    (tmp_path / "toy.inter").write_text(INTER.replace("\t", separator))
    (tmp_path / "toy.item").write_text(f'item_id:token{separator}name:token\n10{separator}"A\n11{separator}B\n')
    dataset = load_dataset(tmp_path)
    assert dataset.vocabularies["item"].ids() == [10, 11]
    assert dataset.interactions.weight.tolist() == [3.0, 4.5]
    assert dataset.interactions.order.tolist() == [5, 6]
    assert dataset.attributes["item"]["name"].tolist() == ['"A', "B"]
    (tmp_path / "toy.inter").write_text((INTER + "2\t12\thigh\t7\n").replace("\t", separator))
    with pytest.raises(DataError, match=r"toy\.inter line 4 has 'high' in column 'rating'"):
        load_dataset(tmp_path)


def test_triples_with_other_separators(tmp_path):
    (tmp_path / "toy.kg").write_text("head_id:token,relation_id:token,tail_id:token\na,r,b\nb,r,c\n")
    assert len(load_dataset(tmp_path).triples) == 2


def test_parts_with_different_columns_are_refused(tmp_path):
    (tmp_path / "toy.train.inter").write_text("user_id:token\titem_id:token\n1\t10\n")
    (tmp_path / "toy.valid.inter").write_text("user_id:token\titem_id:token\trating:float\n1\t11\t5\n")
    with pytest.raises(
        DataError, match=r"^toy\.valid\.inter has a column of the role 'weight', but toy\.train\.inter has none; give all"
    ):
        load_dataset(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "toy.inter").write_text("user_id:token\titem_id:token\tuser_id:float\n1\t10\t3\n")
    with pytest.raises(DataError, match=r"^toy\.inter has more than one column 'user_id'; rename or drop all but one$"):
        load_dataset(tmp_path)
