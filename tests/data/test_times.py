"""Unix seconds and dates, and errors that name the line of impossible times."""

import pandas as pd
import pytest

from gmmrec.data.columns import ColumnNames, interaction_log
from tests.data.test_columns import log_of, refused


@pytest.mark.parametrize("name", ["timestamp", "time", "unix_time", "date"])
def test_times_are_unix_seconds_or_dates(tmp_path, name):
    log = log_of(tmp_path, f"user,item,{name}\n1,2,0\n1,3,1260759144\n")
    assert log["time"].tolist() == [0, 1260759144]
    log = log_of(tmp_path, f"user,item,{name}\n1,2,2018-09-20\n1,3,1965-12-20\n")
    assert log["time"].tolist() == [1537401600, -127267200]  # 1473 days before 1970: a film review may be older than Unix


def test_times_of_a_frame_may_be_datetimes():
    frame = pd.DataFrame({"user": [1, 1], "item": [2, 3], "date": pd.to_datetime(["2018-09-20T00:00:01", "1970-01-02T00:00:00"])})
    assert interaction_log(frame, ColumnNames(), None)["time"].tolist() == [1537401601, 86400]


@pytest.mark.parametrize(
    ("times", "line", "complaint"),
    [
        (["5", "-1"], 3, "is negative"),
        (["1260759144000"], 2, "milliseconds, so divide the column by 1000"),
        (["5", "2018-09-20"], 3, "not a number like the other times"),
        (["2018-09-20", "yesterday"], 3, "neither Unix seconds nor a date"),
        (["5", ""], 3, "has no value"),
        (["2018-09-20", "2199-01-01"], 3, "after the year 2100"),
    ],
)
def test_impossible_times_are_named_by_line(tmp_path, times, line, complaint):
    message = refused(tmp_path, "user,timestamp,item\n" + "".join(f"1,{time},2\n" for time in times))
    assert f"line {line} " in message
    assert complaint in message
