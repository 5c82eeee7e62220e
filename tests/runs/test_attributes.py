"""Tables come back from a file as they went in."""

import json

import numpy as np
import pandas as pd
import pytest

from gmmrec.errors import UsageError
from gmmrec.runs.attributes import from_plain, to_plain

TABLE = pd.DataFrame(
    {
        "title": ["NA", "None", "null", "nan", "007", "", "1e5", "True", 'Æon\u2028 "x",\n', "1.0"],
        "plain": [f"film {i}" for i in range(10)],
        "missing": ["a", None, np.nan, "b", *["c"] * 6],
        "year": range(1990, 2000),
        "large": [2**53 + i for i in range(10)],
        "price": [0.1, np.nan, 1e300, -0.0, 5e-324, 1 / 3, 2.0, 3.0, 4.0, 5.0],
        "is_new": [True, False] * 5,
        "mixed": [1, "1", 1.5, True, None, "x", 2**70, -3, "", "y"],
        "kind": pd.Categorical(["a", "b"] * 5),
        "seen": pd.date_range("1969-12-31T23:59:59.123456789", periods=10, freq="D"),
    }
)


def test_values_and_types_survive_json():
    again = from_plain(json.loads(json.dumps(to_plain(TABLE))), 10, "attributes.json")
    pd.testing.assert_frame_equal(again.drop(columns="missing"), TABLE.drop(columns="missing"), check_dtype=True, check_exact=True)
    assert again["missing"].isna().tolist() == TABLE["missing"].isna().tolist()
    assert again["missing"].dropna().tolist() == TABLE["missing"].dropna().tolist()
    assert [type(value) for value in again["mixed"]] == [type(value) for value in TABLE["mixed"]]


def test_values_that_json_lacks_become_text():
    frame = pd.DataFrame({"tags": [["a", "b"], {"c"}], "far": [np.inf, 1.0]})
    again = from_plain(json.loads(json.dumps(to_plain(frame))), 2, "attributes.json")
    assert again["tags"].tolist() == ["['a', 'b']", "{'c'}"]
    assert again["far"].tolist() == [np.inf, 1.0]


def test_an_empty_table_keeps_its_rows():
    assert from_plain({}, 3, "attributes.json").shape == (3, 0)


@pytest.mark.parametrize(
    "column",
    [
        None,
        [],
        {"kind": "text"},
        {"kind": "pickle", "values": [1]},
        {"kind": "int64", "values": ["x"]},
        {"kind": "int64", "values": [1.5]},
        {"kind": "int64", "values": [2**70]},
        {"kind": "float64", "values": ["x"]},
        {"kind": "bool", "values": [1]},
        {"kind": "text", "values": [{}]},
        {"kind": "datetime", "values": ["yesterday"]},
        {"kind": "text", "values": ["a", "b"]},
    ],
)
def test_columns_that_are_not_as_they_were_written_are_refused(column):
    with pytest.raises(UsageError, match=r"attributes\.json is damaged: column 'title'"):
        from_plain({"title": column}, 1, "attributes.json")
