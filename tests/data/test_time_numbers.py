"""Numbers are read exactly, and spans of their forms do not overlap."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.time_numbers import UNITS, Numbers, convert, exact_numbers, recognise, spans
from gmmrec.errors import DataError


@pytest.mark.parametrize("count", [1, 6_000_000, 10**9])
def test_spans_do_not_overlap(count):
    found = sorted(spans(count), key=lambda span: span.low)
    assert all(span.low < span.high for span in found)
    assert all(one.high < other.low for one, other in pairwise(found))


def test_a_long_log_may_be_ordered_by_its_rows():
    rows = Numbers(np.array([0, 9_000_000, 11_999_999]), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="11999999"):
        recognise(rows, lambda row: str(rows.whole[row]))
    assert spans(12_000_000)[0].high >= 11_999_999


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_gives_the_same_moment(unit):
    instant = 1_619_863_200 * 10**9 + 123_456_789
    per_tick = 10**9 // UNITS[unit]
    whole, rest = divmod(instant, per_tick)
    numbers = Numbers(np.array([whole]), np.array([rest * (10**9 // per_tick)]))
    found = convert(numbers, unit, str)
    assert (found.second.item(), found.nanosecond.item()) == (1_619_863_200, 123_456_789)


@pytest.mark.parametrize(
    ("values", "whole", "billionths"),
    [
        ([1.25, -0.5], [1, -1], [250_000_000, 500_000_000]),
        (["0.000000001", "7"], [0, 7], [1, 0]),
        (["9007199254740993", "1.5"], [9007199254740993, 1], [0, 500_000_000]),  # above the whole numbers of a float
        (["1.6e9", "2"], [1_600_000_000, 2], [0, 0]),
        ([0.9999999999], [1], [0]),
    ],
)
def test_numbers_are_exact(values, whole, billionths):
    found, is_number = exact_numbers(pd.Series(values), str)
    assert is_number.all()
    assert (found.whole.tolist(), found.billionths.tolist()) == (whole, billionths)
