"""Rows numbered from 0 or from 1: read without a word where only one reading fits, else with both."""

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError


def load(ids, values, **tables):
    log = pd.DataFrame({"user": [f"u{number}" for number, _ in enumerate(ids)], "item": ids})
    return load_dataset(log, features={"image": np.array(values, dtype=np.float32)[:, None]}, **tables)


def vectors(dataset):
    table = dataset.features["image"]
    ids = dataset.vocabularies["item"].ids()
    return {raw_id: value for raw_id, (value,), there in zip(ids, table.values.tolist(), table.mask.tolist(), strict=True) if there}


@pytest.mark.parametrize(
    ("ids", "values", "expected"),
    [
        ([0, 1, 2], [5, 6, 7], {0: 5, 1: 6, 2: 7}),
        ([0, 2], [5, 6, 7], {0: 5, 1: 6, 2: 7}),  # a cold item, for another id proves the numbering from 0
        ([1, 2], [0, 6, 7], {1: 6, 2: 7}),  # an empty row before the ids
        ([1, 3], [0, 6, 0, 7, 0], {1: 6, 3: 7}),
    ],
)
def test_certain_readings_from_zero(ids, values, expected, caplog):
    dataset = load(ids, values)
    assert vectors(dataset) == expected
    assert dataset.vocabularies["item"].ids() == sorted(expected)  # empty rows name no item
    assert caplog.text == ""


def test_ids_from_one_to_the_number_of_rows(caplog):
    assert vectors(load([1, 3], [5, 6, 7])) == {1: 5, 2: 6, 3: 7}
    assert "item ids run from 1 to 3, so row 0 is read as id 1" in caplog.text


def test_an_id_that_needs_the_last_row_names_both_readings(caplog):
    assert vectors(load([2, 3], [5, 6, 7])) == {1: 5, 2: 6, 3: 7}
    assert "row 0 is read as id 1; if rows are numbered from 0, the row of id 3 is missing" in caplog.text


def test_ids_from_one_with_a_first_row_that_is_not_empty_name_both_readings(caplog):
    dataset = load([1, 2], [5, 6, 7])
    assert vectors(dataset) == {1: 6, 2: 7}  # and no item 0, which only the row before all ids could name
    assert "row 0 is read as id 0; if it belongs to id 1, every vector is that of another item" in caplog.text
    assert "to be certain, give it as (ids, array)" in caplog.text
    caplog.clear()
    assert vectors(load([1, 3], [5, 6, 7, 8, 9])) == {0: 5, 1: 6, 2: 7, 3: 8, 4: 9}  # cold items are likely
    assert "row 0 is read as id 0" in caplog.text


def test_a_catalogue_decides(caplog):
    assert vectors(load([1, 2], [5, 6, 7], items=pd.DataFrame({"item": [0, 1, 2]}))) == {0: 5, 1: 6, 2: 7}
    assert caplog.text == ""


def test_masked_rows_name_no_item():
    log = pd.DataFrame({"user": [1, 2], "item": [0, 1]})
    given = {"values": np.array([[1.0], [2.0], [np.nan], [3.0]]), "mask": np.array([True, False, False, True])}
    dataset = load_dataset(log, features={"image": given})
    assert vectors(dataset) == {0: 1, 3: 3}
    assert dataset.vocabularies["item"].ids() == [0, 1, 3]
    assert given["mask"].tolist() == [True, False, False, True]


def test_broken_rows_keep_their_number():
    with pytest.raises(DataError, match=r"row 3 \(item id 3\) holds NaN or infinity"):
        load_dataset(pd.DataFrame({"user": [1], "item": [0]}), features={"image": np.array([[1, 1], [0, 0], [0, 0], [np.inf, 1]])})
