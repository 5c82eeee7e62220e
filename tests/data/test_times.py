"""Times of every form keep all their digits, and impossible ones are named by line."""

import datetime as dt
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.cli.main import main
from gmmrec.data.columns import ColumnNames, interaction_log
from gmmrec.data.describe import describe
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.split import leave_last_out
from gmmrec.data.times import read_times, time_columns, written_times
from gmmrec.errors import DataError, UsageError
from tests.data.test_columns import log_of, refused


@pytest.mark.parametrize("name", ["timestamp", "time", "unix_time", "date"])
def test_times_are_unix_seconds_or_dates(tmp_path, name):
    log = log_of(tmp_path, f"user,item,{name}\n1,2,1000000000\n1,3,1260759144\n")
    assert log["time"].tolist() == [1000000000, 1260759144]
    log = log_of(tmp_path, f"user,item,{name}\n1,2,2018-09-20\n1,3,1965-12-20\n")
    assert log["time"].tolist() == [1537401600, -127267200]  # 1473 days before 1970: a film review may be older than Unix


def test_times_of_a_frame_may_be_datetimes():
    frame = pd.DataFrame({"user": [1, 1], "item": [2, 3], "date": pd.to_datetime(["2018-09-20T00:00:01", "1970-01-02T00:00:00"])})
    assert interaction_log(frame, ColumnNames(), None)["time"].tolist() == [1537401601, 86400]


CLICKS = pd.to_datetime([f"2021-05-01T10:00:00{fraction}" for fraction in (".000", ".900", ".300", ".600")])
NANOSECONDS = CLICKS.as_unit("ns").astype(np.int64)
FORMS = {
    "datetime64[ns]": CLICKS.as_unit("ns"),
    "datetime64[ms]": CLICKS.as_unit("ms"),
    "with a zone": CLICKS.tz_localize("UTC").tz_convert("Asia/Tokyo"),
    "objects": CLICKS.to_pydatetime(),
    "ISO": [moment.isoformat() for moment in CLICKS],
    "ISO with zones": [f"{moment.isoformat()}Z" for moment in CLICKS[:2]]
    + [f"{(moment + pd.Timedelta(hours=2)).isoformat()}+02:00" for moment in CLICKS[2:]],
    "named UTC": [f"{moment} UTC" for moment in CLICKS],
    "fractional seconds": NANOSECONDS / 1e9,
    "texts of fractional seconds": [f"1619863200.{digit}" for digit in "0936"],
    "milliseconds": NANOSECONDS // 10**6,
    "texts of milliseconds": (NANOSECONDS // 10**6).astype(str),
    "microseconds": NANOSECONDS // 10**3,
    "nanoseconds": NANOSECONDS,
    "nullable": pd.array(NANOSECONDS, dtype="Int64"),
    "categories": pd.Categorical([moment.isoformat() for moment in CLICKS]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_last_click_within_a_second_is_the_last_in_every_form(form):
    frame = pd.DataFrame({"user": "u", "item": ["first", "last", "second", "third"], "timestamp": FORMS[form]})
    dataset = load_dataset(frame)
    log = dataset.interactions
    assert dataset.vocabularies["item"].ids(log.item[leave_last_out(log) == 2]) == ["last"]
    assert log.time.tolist() == [1619863200] * 4
    assert [round(value, -6) for value in log.nanosecond.tolist()] == [0, 900_000_000, 300_000_000, 600_000_000]


def test_texts_of_nanoseconds_and_long_fractions_lose_no_digit():
    assert read_times(pd.Series(["1619863200123456789", "1619863200123456790"]), None)["nanosecond"].tolist() == [
        123456789,
        123456790,
    ]
    assert read_times(pd.Series(["1619863200.123456789", "1619863200"]), None)["nanosecond"].tolist() == [123456789, 0]
    assert read_times(pd.Series(["2021-05-01T10:00:00.123456789", "2021-05-01"]), None)["nanosecond"].tolist() == [123456789, 0]


def dates(values, form="auto"):
    found = read_times(pd.Series(values, name="date"), None, form)
    return found["time"].astype("datetime64[s]").astype(str).tolist()


@pytest.mark.parametrize(
    ("values", "form", "expected"),
    [
        ([20190213, 20200101], "auto", ["2019-02-13T00:00:00", "2020-01-01T00:00:00"]),
        (["20190213"], "auto", ["2019-02-13T00:00:00"]),
        ([20190213.0], "auto", ["2019-02-13T00:00:00"]),
        ([201902131230], "auto", ["2019-02-13T12:30:00"]),
        ([20190213123059], "auto", ["2019-02-13T12:30:59"]),
        ([43509.5, 43510.25], "spreadsheet", ["2019-02-13T12:00:00", "2019-02-14T06:00:00"]),
        ([42047.75], "spreadsheet_1904", ["2019-02-13T18:00:00"]),
        ([2019, 2020], "year", ["2019-01-01T00:00:00", "2020-01-01T00:00:00"]),
        ([-86400], "s", ["1969-12-31T00:00:00"]),
        ([2019021307], "%Y%m%d%H", ["2019-02-13T07:00:00"]),
        (["13/02/2019", "03/04/2019 08:30"], "auto", ["2019-02-13T00:00:00", "2019-04-03T08:30:00"]),
        (["02/13/2019", "03/04/2019"], "auto", ["2019-02-13T00:00:00", "2019-03-04T00:00:00"]),
        (["03/04/2019"], "day_first", ["2019-04-03T00:00:00"]),
        (["03/04/2019"], "month_first", ["2019-03-04T00:00:00"]),
        (["13/02/19"], "%d/%m/%y", ["2019-02-13T00:00:00"]),
        (["Feb 13, 2019"], "%b %d, %Y", ["2019-02-13T00:00:00"]),
        ([dt.date(2019, 2, 13)], "auto", ["2019-02-13T00:00:00"]),
        (["1955-03-02", "1968-01-01"], "auto", ["1955-03-02T00:00:00", "1968-01-01T00:00:00"]),
    ],
)
def test_dates_of_other_forms(values, form, expected):
    assert dates(values, form) == expected


@pytest.mark.parametrize("values", [[0, 3, 1], [5.0, 7.0], ["12", "0"], pd.array([3, 1], dtype="Int32"), [9_999_999, 2]])
def test_small_whole_numbers_are_an_order(values):
    found = read_times(pd.Series(values), None)
    assert list(found) == ["order"]
    assert found["order"].tolist() == [int(value) for value in values]


def test_fractions_and_dates_are_an_order_on_request():
    assert read_times(pd.Series([0.5, 0.25, 0.5]), None, "order")["order"].tolist() == [1, 0, 1]
    assert read_times(pd.Series([2019, 2018]), None, "order")["order"].tolist() == [2019, 2018]


@pytest.mark.parametrize(
    ("times", "line", "complaint"),
    [
        (["5", "-1"], 3, "is negative"),
        (["5", "2018-09-20"], 3, "not a number like the other times"),
        (["2018-09-20", "yesterday"], 3, "neither a Unix time nor a date"),
        (["now"], 2, "neither a Unix time nor a date"),
        (["5", ""], 3, "has no value"),
        (["5", " "], 3, "has no value"),
        (["2018-09-20", "NaT"], 3, "has no value"),
        (["2018-09-20", "2199-01-01"], 3, "after the year 2100"),
        (["0001-01-01"], 2, "before the year 1678"),
        (["1600000000", "1600000001", "0"], 4, "while the column holds Unix seconds"),
        (["1600000000", "1600000001", "1600000002000"], 4, "while the column holds Unix seconds"),
        (["20190213", "20191301"], 3, "is no date of the form '%Y%m%d'"),
        (["25000000"], 2, "no plausible time"),
        (["636900000000000000"], 2, "no plausible time"),
        (["1e39"], 2, "too large"),
        (["inf"], 2, "too large"),
        (["43509.5"], 2, "set time_format to 'spreadsheet'"),
        (["43509", "43510"], 2, "set time_format to 'spreadsheet'"),
        (["2019", "2020"], 2, "set time_format to 'year'"),
        (["201902"], 2, "set time_format to '%Y%m'"),
        (["190213"], 2, "two-digit year"),
        (["2019021312"], 2, "Unix seconds of the future"),
        (["0.5"], 2, "set time_format to 'order'"),
        (["03/04/2019", "05/06/2019"], 2, "set time_format to 'day_first' or 'month_first'"),
        (["13/04/2019", "04/13/2019"], 2, "other rows have the month first"),
        (["13/04/19"], 2, "two digits of the year"),
        (["2019-01-01T10:00:00Z", "2019-01-01T10:00:00"], 3, "a time without a zone"),
        (["2019-02-30"], 2, "neither a Unix time nor a date"),
    ],
)
def test_impossible_times_are_named_by_line(tmp_path, times, line, complaint):
    message = refused(tmp_path, "user,timestamp,item\n" + "".join(f"1,{time},2\n" for time in times))
    assert f"line {line} " in message
    assert complaint in message


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series([1.6e9, 1.7e9], dtype="float32"), "a float32 that is rounded to steps of minutes; read times as float64"),
        (pd.Series([2**64 - 1], dtype="uint64"), "too large for a time"),
        (pd.Series([True, False]), "holds bool values, which are no times"),
        (pd.Series(pd.to_timedelta([1, 2], unit="s")), "holds timedelta64.* values, which are no times"),
        (pd.Series([pd.NaT, pd.Timestamp("2019-01-01")]), "row 0 has no value"),
        (pd.Series([dt.datetime(2019, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2019, 1, 1)]), "row 1 .* a time without a zone"),
    ],
)
def test_columns_that_hold_no_times_are_refused(column, message):
    with pytest.raises(DataError, match=message):
        read_times(column.rename("date"), None)


@pytest.mark.parametrize(
    ("form", "values", "message"),
    [
        ("ms", ["2019-01-01"], "is no number, but time_format is 'ms'"),
        ("%Q", ["2019"], "time_format '%Q' is no pattern of dates"),
        ("%Y/%m", ["2019-01"], "no date of the form '%Y/%m'"),
        ("year", [20190101], "is no year"),
        ("spreadsheet", [1.6e9], "is no day number"),
        ("day_first", ["2019-01-01"], "no date such as 13/02/2019"),
        ("month_first", ["13/02/2019"], "no date with the month first"),
        ("s", pd.to_datetime(["2019-01-01"]), "holds dates already; leave time_format out"),
    ],
)
def test_a_named_form_that_does_not_fit_is_refused(form, values, message):
    with pytest.raises(DataError, match=message):
        read_times(pd.Series(values, name="date"), None, form)


def test_unknown_forms_are_refused():
    with pytest.raises(UsageError, match="time_format must be one of 'auto', 's', 'ms'"):
        load_dataset("movies-small", time_format="seconds")


def test_dates_made_of_seconds_without_a_unit_are_warned_of(caplog):
    read_times(pd.Series(pd.to_datetime([1_619_863_200, 1_619_863_300]), name="date"), None)
    assert "all times of column 'date' lie in the first weeks of 1970" in caplog.text
    assert "unit='s'" in caplog.text


def test_describe_shows_dates_or_says_that_there_are_none(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("user,item,date\nu1,a,20190213\nu1,b,20200101\nu2,a,20190730\n")
    assert main(["data", "describe", "-d", str(tmp_path / "log.csv")]) == 0
    assert "2019-02-13 to 2020-01-01" in capsys.readouterr().out
    (tmp_path / "weeks.csv").write_text("user,item,time\nu1,a,12\nu1,b,3\n")
    assert main(["data", "describe", "-d", str(tmp_path / "weeks.csv")]) == 0
    assert "3 to 12, an order without dates" in capsys.readouterr().out
    assert describe(load_dataset(tmp_path / "weeks.csv")).has_dates is False
    (tmp_path / "excel.csv").write_text("user,item,date\nu1,a,43509.5\nu1,b,43510.25\n")
    assert main(["data", "describe", "-d", str(tmp_path / "excel.csv")]) == 2
    assert main(["data", "describe", "-d", str(tmp_path / "excel.csv"), "--data.time_format", "spreadsheet"]) == 0
    assert "2019-02-13 to 2019-02-14" in capsys.readouterr().out


def test_files_of_one_log_must_have_times_alike():
    dated, other = pd.DataFrame({"time": [1, 2], "nanosecond": [5, 0]}), pd.DataFrame({"time": [3]})
    assert time_columns(pd.concat([dated, other]), "x")["nanosecond"].tolist() == [5, 0, 0]
    with pytest.raises(DataError, match="only some files of x have times"):
        time_columns(pd.concat([other, pd.DataFrame(index=[0])]), "x")
    with pytest.raises(DataError, match="only some files of x have dates"):
        time_columns(pd.concat([other, pd.DataFrame({"order": [1]})]), "x")


@pytest.mark.parametrize(
    "times",
    [
        {"time": [1_600_000_000, 1_600_000_001]},
        {"time": [1_600_000_000, 1_600_000_000], "nanosecond": [1, 999_999_999]},
        {"time": [-127_267_200, 5]},
        {"time": [-1, 1_600_000_000], "nanosecond": [500_000_000, 0]},
        {"time": [1_919_021_312, 1_919_021_313]},  # would be read as hours of 2019 … if written as seconds
        {"order": [4, 0]},
    ],
)
def test_written_times_are_read_alike(times):
    row = torch.zeros(2, dtype=torch.long)
    log = Interactions(row, row, **{name: torch.tensor(values) for name, values in times.items()})
    found = read_times(pd.Series(written_times(log)).astype(str), None)
    assert {name: values.tolist() for name, values in found.items()} == times


def test_an_order_that_looks_like_dates_is_written_as_ranks():
    row = torch.zeros(3, dtype=torch.long)
    assert written_times(Interactions(row, row, order=torch.tensor([2020, 2018, 2020]))).tolist() == [1, 0, 1]
    assert written_times(Interactions(row, row)) is None


def test_a_warning_names_a_split_by_the_numbers_of_an_order(caplog):
    caplog.set_level(logging.WARNING)
    frame = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 1, 2, 3], "week": [3, 4, 5, 1, 6, 7]})
    dataset = load_dataset(frame, time_column="week")
    assert dataset.interactions.time is None
    assert dataset.interactions.order.tolist() == [3, 4, 5, 1, 6, 7]
