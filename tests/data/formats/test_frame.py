import numpy as np
import pandas as pd

from gmmrec.data.load import load_dataset


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


def test_an_index_that_was_filtered_does_no_harm():
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
    assert from_parquet.vocabularies["user"].ids() == ["7", "8"]  # a Parquet file says what it means
    assert from_parquet.interactions.time.tolist() == [1, 2]
