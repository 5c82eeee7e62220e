import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


def test_a_frame_keeps_the_type_of_its_ids():
    frame = pd.DataFrame({"u": [3, 1, 3], "i": ["2", "1", "10"], "stars": [1, 2, 3]})
    dataset = load_dataset(frame, user_column="u", item_column="i", weight_column="stars")
    assert dataset.vocabularies["user"].ids() == [1, 3]
    assert dataset.vocabularies["item"].ids() == ["2", "1", "10"]
    assert dataset.interactions.user.tolist() == [1, 0, 1]
    assert dataset.interactions.item.tolist() == [0, 1, 2]
    assert dataset.interactions.weight.tolist() == [1.0, 2.0, 3.0]


def test_integers_in_an_object_column_are_integers():
    frame = pd.DataFrame({"user": pd.Series([3, 1], dtype=object), "item": np.array([5, 6], dtype=np.int16)})
    assert load_dataset(frame).vocabularies["user"].ids() == [1, 3]


def test_a_filtered_index_is_ignored():
    frame = pd.DataFrame({"user": [9, 1, 2], "item": [9, 5, 6], "rating": [1.0, 2.0, 3.0], "split": ["train", "train", "test"]})
    dataset = load_dataset(frame[frame["user"] < 9])
    assert dataset.interactions.weight.tolist() == [2.0, 3.0]
    assert dataset.given_split.tolist() == [0, 2]


def test_files_of_one_table(tmp_path):
    frame = pd.DataFrame({"userId": ["7", "8"], "movieId": ["1", "2"], "timestamp": [1, 2]})
    frame.to_csv(tmp_path / "ratings.csv.gz", index=False)
    frame.to_parquet(tmp_path / "ratings.parquet")
    from_text, from_parquet = load_dataset(tmp_path / "ratings.csv.gz"), load_dataset(str(tmp_path / "ratings.parquet"))
    assert from_text.name == from_parquet.name == "ratings"
    assert from_text.vocabularies["user"].ids() == [7, 8]
    assert from_parquet.vocabularies["user"].ids() == ["7", "8"]  # a Parquet file has column types
    assert from_parquet.interactions.order.tolist() == [1, 2]


LOG = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})


def test_attributes_and_features_of_items_and_users():
    items = pd.DataFrame({"item_id": ["x", "z"], "name": ["Alien", None], "year": ["1979", "1942"]})
    users = pd.DataFrame({"age": [30]}, index=pd.Index(["b"], name="user"))
    image = np.array([[1, 2], [3, 4], [np.nan, np.nan]], dtype=np.float16)
    dataset = load_dataset(LOG, items=items, users=users, features={"image": (["z", "w", "x"], image), "user_age": (["b"], [[3]])})
    assert dataset.vocabularies["item"].ids() == ["x", "z", "w", "y"]
    assert dataset.attributes["item"]["title"].tolist() == ["Alien", "z", "w", "y"]
    assert dataset.attributes["item"]["year"].tolist()[:2] == [1979, 1942]
    assert dataset.attributes["user"]["age"].tolist()[0] == 30
    assert dataset.features["image"].values.tolist() == [[0, 0], [1, 2], [3, 4], [0, 0]]
    assert dataset.features["image"].mask.tolist() == [False, True, True, False]
    assert dataset.features["user_age"].node_type == "user"
    assert dict(zip(dataset.vocabularies["user"].ids(), dataset.features["user_age"].mask.tolist(), strict=True)) == {
        "a": False,
        "b": True,
    }


VECTORS = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    "given",
    [
        (["y", "x"], VECTORS),
        (pd.Series(["y", "x"], index=[4, 2]), torch.tensor(VECTORS, dtype=torch.bfloat16)),
        {"y": [1, 2], "x": torch.tensor([3.0, 4.0]), "z": None},
        {"ids": np.array(["y", "x"]), "values": VECTORS},
        pd.DataFrame(VECTORS, index=["y", "x"]),
        pd.DataFrame({"item": ["y", "x"], "a": [1, 3], "b": [2.0, 4.0]}),
        pd.DataFrame({"item": ["y", "x"], "vector": list(VECTORS)}),
        pd.Series(list(VECTORS), index=["y", "x"]),
        (["y", "x"], torch.tensor(VECTORS).to_sparse()),
    ],
    ids=["pair", "tensor", "mapping", "table", "index", "column", "vectors", "series", "sparse"],
)
def test_features_in_many_forms(given):
    table = load_dataset(LOG, features={"image": given}).features["image"]
    ids = load_dataset(LOG, features={"image": given}).vocabularies["item"].ids()
    assert dict(zip(ids, table.values.tolist(), strict=True)) == {"y": [1.0, 2.0], "x": [3.0, 4.0]}


def test_an_array_without_ids_needs_integer_ids():
    log = pd.DataFrame({"user": [0, 1], "item": [1, 0]})
    dataset = load_dataset(log, features={"image": np.array([[1.0], [2.0], [3.0]])})
    assert dataset.vocabularies["item"].ids() == [0, 1, 2]
    assert dataset.features["image"].values.tolist() == [[1.0], [2.0], [3.0]]
    with pytest.raises(DataError, match=r"modality 'image' is indexed by integer ids.*; give it as \(ids, array\)"):
        load_dataset(LOG, features={"image": VECTORS})


def test_tokens_are_masked_one_by_one():
    values = np.ones((2, 3, 2))
    values[0, 1] = np.nan
    dataset = load_dataset(LOG, features={"words": (["x", "y"], values)})
    assert dataset.features["words"].mask.tolist() == [[True, False, True], [True, True, True]]
    mask = np.array([[True, True, False], [False, True, True]])
    dataset = load_dataset(LOG, features={"words": (["x", "y"], values, mask)})
    assert dataset.features["words"].mask.tolist() == [[True, False, False], [False, True, True]]


def test_triples_and_alignment():
    triples = pd.DataFrame({"head": ["p"], "relation": ["r"], "tail": ["q"]})
    alignment = pd.DataFrame({"item": ["x"], "entity": ["q"]})
    dataset = load_dataset(LOG, triples=triples, alignment=alignment, features={"entity_text": (["q"], [[1.0]])})
    assert dataset.vocabularies["entity"].ids() == ["q", "p"]
    assert dataset.triples.entity.tolist() == [0, -1]
    assert (dataset.triples.head.tolist(), dataset.triples.tail.tolist()) == ([1], [0])
    assert dataset.features["entity_text"].mask.tolist() == [True, False]


def test_frames_extend_a_data_set_on_disk():
    plain = load_dataset("movies-small")
    dataset = load_dataset("movies-small", features={"image": ([1, 2], VECTORS), "clip": ([1], [[1.0]])}, modalities="image,clip")
    assert dataset.vocabularies["item"].ids() == plain.vocabularies["item"].ids()
    assert dataset.features["image"].dim == 2
    assert int(dataset.features["clip"].present.sum()) == 1


def test_columns_keep_their_type():
    items = pd.DataFrame(
        {"item": ["x", "y"], "seen": pd.to_datetime(["2020-01-01", "2021-01-01"]), "tags": [["a"], []], "new": [True, False]}
    )
    attributes = load_dataset(LOG, items=items).attributes["item"]
    assert attributes["seen"].tolist() == items["seen"].tolist()
    assert attributes["tags"].tolist() == [["a"], []]
    assert attributes["new"].tolist() == [True, False]


def test_numbered_columns_and_a_named_index_are_read():
    frame = pd.DataFrame([["a", "x", 1.0], ["b", "y", 2.0]])
    for names in ({"user_column": 0, "item_column": 1}, {"user_column": "0", "item_column": "1"}):
        assert load_dataset(frame, **names).vocabularies["item"].ids() == ["x", "y"]
    assert load_dataset(LOG.set_index(["user", "item"])).interactions.item.tolist() == [0, 1, 0]
    assert load_dataset(LOG, items=pd.DataFrame({"title": ["X"]}, index=["x"])).attributes["item"]["title"].tolist()[0] == "X"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"items": pd.DataFrame({"item": ["x", "x"]})}, "the frame of items has item id 'x' more than once"),
        ({"items": pd.DataFrame({"item": ["x", None]})}, "the frame of items row 1 has no value in column 'item'"),
        ({"items": pd.DataFrame({"colour": ["red"]})}, "the frame of items has no item column such as"),
        ({"users": {"user": ["a"]}}, "the frame of users is a dict, but must be a pandas DataFrame"),
        ({"features": {"image": (["x", "x"], VECTORS)}}, "modality 'image' has id 'x' more than once"),
        ({"features": {"image": (["x", None], VECTORS)}}, "modality 'image' row 1 has no value in column 'ids'"),
        ({"features": {"image": (["x"], VECTORS)}}, "modality 'image' has 2 rows in 'image' but 1 ids"),
        (
            {"features": {"image": (["x", "y"], VECTORS[:, 0])}},
            r"array 'image' has shape \(2,\), but features must be \[rows, width\]",
        ),
        ({"features": {"image": (["x", "y"], [["a"], ["b"]])}}, "holds <U1 values; features must be numbers"),
        ({"features": {"image": (["x"], [[1.0, np.nan]])}}, "modality 'image' row 0 .item id 'x'. holds NaN or infinity"),
        ({"features": {"image": ([1, 2], VECTORS)}}, "item ids are strings such as 'x' in the interactions but integers such as 1"),
        (
            {"features": {"image": {"x": [1], "y": [1, 2]}}},
            r"modality 'image' has shape \(2,\) for id 'y' but \(1,\) for the first",
        ),
        ({"features": {"image": {"x": None}}}, "modality 'image' holds no vector"),
        ({"features": {"image": (["x"], [[1.0]], [True, True])}}, r"'mask' is bool \(2,\), but must be boolean \(1,\)"),
        (
            {"features": {"image": pd.DataFrame({"item": ["x"], "a": ["b"], "c": [1]})}},
            "values in column 'a'; features must be numbers",
        ),
        ({"features": {"image": 5}}, "modality 'image' is a int, but must be"),
    ],
)
def test_messages(given, message):
    with pytest.raises(DataError, match=message):
        load_dataset(LOG, **given)


def test_repeated_columns_are_named():
    for frame in (
        pd.concat([LOG, LOG[["user"]]], axis=1),
        pd.concat([LOG.assign(rating=1.0), LOG.assign(rating=2.0)[["rating"]]], axis=1),
    ):
        with pytest.raises(DataError, match=r"the frame has more than one column '(user|rating)'; rename or drop all but one"):
            load_dataset(frame)
