import uuid

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.ids import raw_ids
from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


def read(values, dtype=None):
    return raw_ids(pd.Series(values, dtype=dtype, name="user"), None)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([20, 10, 20], "category"),
        ([20, 10, 20], "uint64"),
        ([20, 10, 20], "Int16"),
        ([20, 10, 20], "UInt64"),
        ([20, 10, 20], "int64[pyarrow]"),
        ([20, 10, 20], object),
        ([np.int32(20), 10, np.uint8(20)], object),
    ],
    ids=str,
)
def test_integers_of_any_type_are_integers(values, dtype):
    ids = read(values, dtype)
    assert ids.dtype == np.int64
    assert ids.tolist() == [20, 10, 20]


@pytest.mark.parametrize("dtype", [object, "str", "string", "string[pyarrow]", "category"])
def test_texts_of_any_type_lose_surrounding_white_space_only(dtype):
    assert read(["a", " b\t", "a b", "007", "\u00a07"], dtype).tolist() == ["a", "b", "a b", "007", "7"]


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([2**63 + 1, 1], "uint64", "holds the id 9223372036854775809, which is not an integer of 64 bits with a sign"),
        ([2**70, 1], object, "holds the id 1180591620717411303424"),
        ([-(2**70), 1], object, "holds the id -1180591620717411303424"),
        ([1.0, 2.0], "category", "holds float64 ids"),
        ([1.0, 2.0], "Float64", "holds Float64 ids"),
        ([True, False], "boolean", "holds boolean ids"),
        ([True, 1], object, "mixes ids of type bool, int"),
        ([1, "a"], "category", "mixes ids of type int, str"),
        ([b"a"], object, r"ids of type bytes, .* convert them with .str.decode\('utf-8'\)"),
        ([uuid.UUID(int=1)], object, "ids of type UUID, but ids must be integers or texts"),
        ([["a"]], object, "ids of type list"),
        (["2020-01-01"], "datetime64[s]", "ids of type Timestamp"),
        ([1, None], "Int64", "the frame row 1 has no value in column 'user'"),
        (["a", None], "category", "row 1 has no value"),
        (["a", "  ", ""], object, r"row 1 has no value in column 'user' \(2 such rows in total\)"),
    ],
    ids=str,
)
def test_other_ids_are_refused_in_one_sentence(values, dtype, message):
    with pytest.raises(DataError, match=message):
        read(values, dtype)


def test_categorical_integers_are_asked_for_by_number():
    frame = pd.DataFrame({"user": pd.Categorical([10, 10, 20, 20]), "item": ["x", "y", "x", "z"]})
    assert load_dataset(frame).vocabularies["user"].ids() == [10, 20]
    assert load_dataset(frame.astype({"user": "Int32"})).vocabularies["user"].ids() == [10, 20]


def test_unsigned_ids_come_back_as_given_or_are_refused(tmp_path):
    frame = pd.DataFrame({"user": np.array([2**63 - 1, 2**62], dtype="uint64"), "item": ["x", "y"]})
    frame.to_parquet(tmp_path / "log.parquet")
    for source in (frame, tmp_path / "log.parquet"):
        assert load_dataset(source).vocabularies["user"].ids() == [2**62, 2**63 - 1]
    frame["user"] += 1
    with pytest.raises(DataError, match="9223372036854775808"):
        load_dataset(frame)
    (tmp_path / "log.csv").write_text("user,item\n9223372036854775808,x\n9223372036854775807,y\n")
    assert load_dataset(tmp_path / "log.csv").vocabularies["user"].ids() == ["9223372036854775808", "9223372036854775807"]


def test_spaces_around_ids_do_not_make_new_ones(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\na ,x\na, y\n")
    (tmp_path / "items.csv").write_text("item,title\nx ,X\ny,Y\n")
    dataset = load_dataset(tmp_path)
    assert (dataset.vocabularies["user"].ids(), dataset.vocabularies["item"].ids()) == (["a"], ["x", "y"])
    (tmp_path / "items.csv").write_text("item,title\nx ,X\nx,Y\n")
    with pytest.raises(DataError, match=r"items.csv has item id 'x' more than once"):
        load_dataset(tmp_path)


def test_the_table_is_named():
    log = pd.DataFrame({"user": [1], "item": [1]})
    with pytest.raises(DataError, match="column 'item' of the frame of items holds float64 ids"):
        load_dataset(log, items=pd.DataFrame({"item": [1.0]}))
    with pytest.raises(DataError, match="column 'ids' of modality 'image' mixes ids of type int, str"):
        load_dataset(log, features={"image": ([1, "2"], [[1.0], [2.0]])})


@pytest.mark.parametrize("dtype", [object, "str", "int64"])
def test_a_table_without_rows_decides_no_type(dtype):
    log, empty = pd.DataFrame({"user": [1], "item": ["x"]}), pd.DataFrame({"item": pd.Series([], dtype=dtype), "title": []})
    assert load_dataset(log, items=empty).vocabularies["item"].ids() == ["x"]
    assert load_dataset(log.assign(item=5), items=empty).vocabularies["item"].ids() == [5]
