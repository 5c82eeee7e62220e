"""Rows are kept as CSV: found by their keys, replaced, never half written; summaries give way to cells."""

import pytest

from lab.results import Store, count_runs, number, summarise


def test_rows_come_back_as_they_were_put(tmp_path):
    store = Store("a", tmp_path)
    store.put({"dataset": "d", "model": "m, with a comma", "seed": 0, "part": "test", "recall@20": 0.1 + 0.2, "note": None})
    again = Store("a", tmp_path)
    assert again.rows == [
        {"dataset": "d", "model": "m, with a comma", "seed": "0", "part": "test", "recall@20": "0.30000000000000004"}
    ]
    assert number(again.rows[0], "recall@20") == 0.1 + 0.2
    assert number(again.rows[0], "ndcg@20") is None
    assert again.find(dataset="d", model="m, with a comma", seed=0, part="test") == again.rows[0]
    assert again.find(dataset="d", model="m, with a comma", part="test") is None


def test_a_row_with_the_same_key_is_replaced_where_it_stands(tmp_path):
    store = Store("a", tmp_path)
    for model, value in (("first", 1), ("second", 2), ("first", 3)):
        store.put({"dataset": "d", "model": model, "seed": 0, "recall@20": value})
    assert [(row["model"], row["recall@20"]) for row in Store("a", tmp_path).rows] == [("first", "3"), ("second", "2")]


def test_a_summary_stays_until_there_are_as_many_cells(tmp_path):
    store, key = Store("a", tmp_path), {"dataset": "d", "model": "m", "digest": "x", "part": "test"}
    store.put(key | {"runs": 2, "recall@20": "0.5", "recall@20 sd": "0.01"})
    store.put(key | {"seed": 0, "recall@20": 0.2})
    assert summarise(store.rows, "recall@20").mean == 0.5
    assert count_runs(store.rows) == 2
    store.put(key | {"seed": 1, "recall@20": 0.4})
    assert [row["seed"] for row in store.rows] == ["0", "1"]
    found = summarise(store.rows, "recall@20")
    assert (found.mean, found.runs) == (pytest.approx(0.3), 2)
    assert found.deviation == pytest.approx(0.02**0.5)


def test_rows_are_put_in_the_place_of_others(tmp_path):
    store = Store("a", tmp_path, ("dataset", "model"))
    for dataset, model in (("a", "x"), ("b", "y"), ("b", "z"), ("c", "x")):
        store.put({"dataset": dataset, "model": model})
    store.replace([{"dataset": "b", "model": "new"}], dataset="b")
    assert [(row["dataset"], row["model"]) for row in Store("a", tmp_path, ("dataset", "model")).rows] == [
        ("a", "x"),
        ("b", "new"),
        ("c", "x"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
