"""Labels of what was liked and what was not, alike in all readers; a word about columns that mean something and are not read."""

import pandas as pd
import pytest

from gmmrec.data.labels import as_numbers
from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

FRAME = pd.DataFrame({"user": [1, 1, 2, 2], "item": ["a", "b", "a", "c"], "label": [1, 0, 0, 1], "time": [10, 11, 12, 13]})


def pairs(dataset):
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    return [(users[u], items[i]) for u, i in zip(dataset.interactions.user, dataset.interactions.item, strict=True)]


def sources(folder, frame):
    """Yield the same table to all readers of tables."""
    yield frame
    for name in ("csv", "parquet"):
        (folder / name).mkdir()
    frame.to_csv(folder / "csv" / "interactions.csv", index=False)
    yield folder / "csv"
    yield folder / "csv" / "interactions.csv"
    frame.to_parquet(folder / "parquet" / "log.parquet")
    yield folder / "parquet" / "log.parquet"
    (folder / "atomic").mkdir()
    names = {"user": "user_id:token", "item": "item_id:token", "label": "label:float", "time": "timestamp:float"}
    frame.rename(columns=names).to_csv(folder / "atomic" / "clicks.inter", sep="\t", index=False)
    yield folder / "atomic"
    (folder / "mmrec").mkdir()
    names = {"user": "userID", "item": "itemID", "time": "timestamp"}
    frame.rename(columns=names).to_csv(folder / "mmrec" / "clicks.inter", sep="\t", index=False)
    yield folder / "mmrec"


@pytest.mark.parametrize("values", [[1, 0, 0, 1], [True, False, False, True], [1, -1, -1, 1], [2.0, 0.0, 0.0, 0.5]], ids=str)
def test_a_label_of_zero_is_no_interaction_in_any_reader(tmp_path, values, caplog):
    for source in sources(tmp_path, FRAME.assign(label=values)):
        caplog.clear()
        dataset = load_dataset(source)
        assert pairs(dataset) == [(1, "a"), (2, "c")]
        assert dataset.vocabularies["item"].ids() == ["a", "b", "c"]  # what nobody liked is still an item
        assert dataset.interactions.weight.tolist() == [float(values[0]), float(values[3])]
        assert "2 of 4 interactions have a label of 0 or less and are left out" in caplog.text
        assert len(load_dataset(source, weight_column="none").interactions) == 4
    assert len(load_dataset(FRAME, min_rating=1).interactions) == 2


def test_a_like_after_a_refusal_counts():
    frame = pd.DataFrame({"user": [1, 1], "item": ["a", "a"], "click": [0, 1], "time": [1, 2]})
    assert load_dataset(frame).interactions.order.tolist() == [2]


def test_labels_keep_split_and_review():
    frame = FRAME.assign(split=["train", "train", "valid", "test"], review=["good film", "bad film", "bad", "good film"])
    dataset = load_dataset(frame)
    assert dataset.given_split.tolist() == [0, 2]
    assert dataset.interactions.review.tolist() == [0, 1]
    assert {"good", "film"} <= set(dataset.reviews.words)
    assert "bad" not in dataset.reviews.words


def test_ratings_called_label_are_ratings(caplog):
    assert load_dataset(FRAME.assign(label=[5, 3, 1, 4])).interactions.weight.tolist() == [5, 3, 1, 4]
    assert caplog.text == ""


def test_labels_that_are_no_numbers_are_not_read(caplog):
    dataset = load_dataset(FRAME.assign(label=["comedy", "drama", "comedy", "comedy"]))
    assert dataset.interactions.weight is None
    assert len(dataset.interactions) == 4
    assert "column 'label' says what was liked, but is not read, as it holds no numbers" in caplog.text
    with pytest.raises(DataError, match="has 'comedy' in column 'label', which is not a finite number"):
        load_dataset(FRAME.assign(label="comedy"), weight_column="label")


def test_a_rating_is_read_rather_than_a_label(caplog):
    dataset = load_dataset(FRAME.assign(rating=[5.0, 2.0, 3.0, 4.0]))
    assert dataset.interactions.weight.tolist() == [5, 2, 3, 4]
    assert "column 'label' says what was liked, but is not read, as 'rating' is; set weight_column" in caplog.text
    assert dataset.unread.columns == {"the frame": ["label"]}


def test_ratings_of_zero_and_one_are_warned_of(caplog):
    frame = FRAME.rename(columns={"label": "rating"})
    assert len(load_dataset(frame).interactions) == 4
    assert "ratings are 0 or 1, and those of 0 count as interactions too; if 0 is no like, set min_rating to 1" in caplog.text
    caplog.clear()
    assert len(load_dataset(frame, min_rating=1).interactions) == 2
    assert caplog.text == ""


def test_nothing_liked_is_refused():
    with pytest.raises(DataError, match="no interaction of frame has a label above 0; set weight_column to 'none'"):
        load_dataset(FRAME.assign(label=0))


@pytest.mark.parametrize(
    ("column", "word"),
    [("event", "interaction of one kind"), ("neg_item_id", "interaction of one kind"), ("item_id_list", "rows of their own")],
)
def test_columns_that_mean_something_are_warned_of(column, word, caplog):
    dataset = load_dataset(FRAME.drop(columns="label").assign(**{column: "view", "price": 1}))
    assert f"the frame: column {column!r} is not read" in caplog.text
    assert word in caplog.text
    assert "price" not in caplog.text
    assert dataset.unread.columns == {"the frame": [column, "price"]}


def test_truth_values_are_numbers_and_other_texts_are_not():
    assert as_numbers(pd.Series(["Yes", "no", None])).tolist()[:2] == [1, 0]
    assert as_numbers(pd.Series(["True", "maybe"])).tolist() == ["True", "maybe"]
