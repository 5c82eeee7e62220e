import numpy as np
import pandas as pd
import pytest

from gmmrec.data.columns import ColumnNames, interaction_log
from gmmrec.data.files import read_table
from gmmrec.errors import DataError


def log_of(tmp_path, text, name="interactions.csv", **columns):
    path = tmp_path / name
    path.write_text(text)
    return interaction_log(read_table(path), ColumnNames(**columns), path)


def refused(tmp_path, text, name="interactions.csv", **columns):
    with pytest.raises(DataError) as caught:
        log_of(tmp_path, text, name, **columns)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "header", ["user,item", "userId,movieId", "user_id,item_id", "userID,itemID", "reviewerID,asin", "User,POI", "user,itemId"]
)
def test_usual_names_of_ids_are_found(tmp_path, header):
    log = log_of(tmp_path, f"{header}\n007,a\n8,b\n")
    assert log["user"].tolist() == ["007", "8"]
    assert log["item"].tolist() == ["a", "b"]


def test_the_first_alias_wins(tmp_path):
    assert log_of(tmp_path, "asin,item,user,article_id\nB1,0,7,99\n")["item"].tolist() == ["0"]


@pytest.mark.parametrize("name", ["rating", "weight"])
def test_ratings_and_weights_are_weights(tmp_path, name):
    log = log_of(tmp_path, f"user,item,{name}\n1,2,0.5\n1,3,4\n")
    assert log["weight"].tolist() == [0.5, 4.0]
    assert log["weight"].dtype == np.float32


def test_a_price_is_not_a_weight(tmp_path):
    assert list(log_of(tmp_path, "user,item,price\n1,2,0.5\n")) == ["user", "item"]


def test_rows_without_a_rating_are_dropped_and_reported(tmp_path, caplog):
    log = log_of(tmp_path, "user,item,rating,date\n1,2,,1990-01-01\n1,3,4,1990-01-01\n")
    assert log["item"].tolist() == ["3"]
    assert "1 of 2 rows have no rating" in caplog.text


def test_a_rating_column_without_any_rating_is_ignored(tmp_path):
    log = log_of(tmp_path, "user,item,rating\n1,2,\n1,3,\n")
    assert list(log) == ["user", "item"]
    assert len(log) == 2


@pytest.mark.parametrize(
    ("label", "part"), [("train", 0), ("Train", 0), ("valid", 1), ("val", 1), ("tune", 1), ("test", 2), ("2", 2)]
)
def test_split_labels(tmp_path, label, part):
    assert log_of(tmp_path, f"user,item,split\n1,2,{label}\n")["split"].tolist() == [part]


def test_named_columns_win(tmp_path):
    log = log_of(tmp_path, "a,b,c,user\n1,2,3,9\n", user="a", item="b", weight="c")
    assert log.iloc[0].tolist() == ["1", "2", 3.0]


def test_columns_can_be_ignored(tmp_path):
    text = "user,item,rating,date,split\n1,2,,odd,odd\n"
    assert list(log_of(tmp_path, text, weight="none", time="none", split="none")) == ["user", "item"]


def test_ids_that_pandas_reads_as_missing_are_kept(tmp_path):
    assert log_of(tmp_path, "user,item\nNA,null\n").iloc[0].tolist() == ["NA", "null"]


def test_missing_column_names_the_nearest(tmp_path):
    message = refused(tmp_path, "user,itm,rating\n1,2,3\n")
    assert "interactions.csv has no item column" in message
    assert "did you mean 'itm'" in message
    assert "item_column" in message


def test_a_named_column_that_is_absent_names_the_nearest(tmp_path):
    message = refused(tmp_path, "user,item,ratings\n1,2,3\n", weight="rating")
    assert "no column 'rating' (did you mean 'ratings'?)" in message


def test_missing_ids_are_named_by_line(tmp_path):
    message = refused(tmp_path, 'user,item,text\n1,2,"two\nlines"\n\n,3,x\n,4,y\n')
    assert "interactions.csv line 5 has no value in column 'user' (2 such rows in total)" in message


def test_a_non_numeric_rating_is_named_by_line_and_value(tmp_path):
    message = refused(tmp_path, "user,item,rating\n1,2,4\n1,3,good\n")
    assert "interactions.csv line 3 has 'good' in column 'rating', which is not a finite number" in message
    assert "line 2 has 'inf'" in refused(tmp_path, "user,item,rating\n1,2,inf\n")


def test_unknown_split_label_is_named_by_line(tmp_path):
    message = refused(tmp_path, "user,item,split\n1,2,train\n1,3,holdout\n")
    assert "line 3 has 'holdout' in column 'split'; a split label is 'train', 'valid' or 'test'" in message


def test_frames_with_invalid_ids_are_refused():
    with pytest.raises(DataError, match=r"mixes ids of type int, str; convert them with .astype\(str\)"):
        interaction_log(pd.DataFrame({"user": [1, 2], "item": pd.Series([1, "a"], dtype=object)}), ColumnNames(), None)
    with pytest.raises(DataError, match="float64 ids"):
        interaction_log(pd.DataFrame({"user": [1.0, 2.0], "item": [1, 2]}), ColumnNames(), None)
    with pytest.raises(DataError, match="the frame row 1 has no value in column 'user'"):
        interaction_log(pd.DataFrame({"user": [1, None], "item": [1, 2]}), ColumnNames(), None)


def test_no_rows_is_an_error(tmp_path):
    assert "holds no interactions below its header" in refused(tmp_path, "user,item\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1e39", "is too large for a rating"),
        ("-1e39", "is too large for a rating"),
        ("1e400", "is not a finite number"),
        ("inf", "is not a finite number"),
        ("-Infinity", "is not a finite number"),
        ("nan", "is not a finite number"),
    ],
)
def test_ratings_beyond_the_range_are_named_by_line_and_column(tmp_path, value, message):
    found = refused(tmp_path, f"user,item,rating\n1,2,4\n1,3,{value}\n")
    assert found.startswith(f"interactions.csv line 3 has {value!r} in column 'rating', which {message}")


def test_ratings_of_a_frame_beyond_the_range_are_named_by_row():
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 4], "rating": [1.0, 1e39]})
    with pytest.raises(DataError, match=r"row 1 has 1e\+39 in column 'rating', which is too large"):
        interaction_log(frame, ColumnNames(), None)
