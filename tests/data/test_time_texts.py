"""Texts are read by one form per column."""

import pandas as pd
import pytest

from gmmrec.data.time_texts import moments_of, read_texts
from gmmrec.errors import DataError


def read(values, form="auto"):
    return read_texts(pd.Series(values), form, lambda row: f"row {row}")


def test_equal_texts_are_read_once_and_returned_in_order():
    found = read(["2019-02-14", "2019-02-13", "2019-02-14"])
    assert found.second.tolist() == [1550102400, 1550016000, 1550102400]


def test_zones_are_converted_and_times_before_1970_have_positive_fractions():
    found = read(["1969-12-31T23:59:59.5+00:00", "1970-01-01T01:30:00.25+01:30"])
    assert (found.second.tolist(), found.nanosecond.tolist()) == ([-1, 0], [500_000_000, 250_000_000])


def test_the_row_of_the_first_wrong_text_is_named():
    with pytest.raises(DataError, match=r"^row 2, which is neither"):
        read(["2019-02-14", "2019-02-14", "2019-13-01", "x"])
    with pytest.raises(DataError, match=r"^row 1, a time without a zone"):
        read(["03/13/2019 10:00Z", "03/14/2019 10:00"])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_of_every_resolution(unit):
    dates = pd.Series(pd.to_datetime(["2019-02-13T12:00:00", "1955-03-02T00:00:01"]).as_unit(unit))
    assert moments_of(dates).second.tolist() == [1550059200, -468201599]
