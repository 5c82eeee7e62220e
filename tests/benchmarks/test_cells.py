"""A cell is run once, resumes after an interruption, and is run again when its settings change."""

import json
from dataclasses import replace

import pytest

from gmmrec.models.lightgcn import LightGCN
from gmmrec.training.files import STATE_FILE
from lab import cells
from lab.cells import Cell
from lab.results import Store
from tests.benchmarks.toy import SETTINGS, toy_lab


@pytest.fixture
def epochs(monkeypatch):
    """Counter of started epochs; ``epochs.stop_at`` interrupts the epoch with that number."""

    class Counter(list):
        stop_at = None

    counter, original = Counter(), LightGCN.begin_epoch

    def begin_epoch(self, *arguments):
        counter.append(len(counter) + 1)
        if counter[-1] == counter.stop_at:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(LightGCN, "begin_epoch", begin_epoch)
    return counter


def test_an_interrupted_grid_resumes_and_finishes_as_if_nothing_had_happened(tmp_path, epochs):
    grid = [Cell("toy", "lightgcn", SETTINGS, seed) for seed in (0, 1)]
    whole = toy_lab(tmp_path / "whole")
    expected = [whole.finished(cell) for cell in grid]
    assert len(epochs) == 8

    lab = toy_lab(tmp_path / "interrupted")
    epochs.clear()
    epochs.stop_at = 7  # the third epoch of the second cell
    with pytest.raises(KeyboardInterrupt):
        [lab.finished(cell) for cell in grid]
    assert (lab.folder(grid[1]) / STATE_FILE).is_file()
    assert not (lab.folder(grid[1]) / "metrics.json").is_file()
    assert len(lab.store.rows) == 1

    lab = toy_lab(tmp_path / "interrupted")
    epochs.clear()
    epochs.stop_at = None
    found = [lab.finished(cell) for cell in grid]
    assert len(epochs) == 2  # the first cell and two epochs of the second are not run again
    for metric in ("recall@5", "ndcg@20"):
        assert [row[metric] for row in found] == [row[metric] for row in expected]


def test_a_row_or_a_run_folder_marks_a_finished_cell(tmp_path, epochs):
    cell, lab = Cell("toy", "lightgcn", SETTINGS), toy_lab(tmp_path)
    row = lab.finished(cell)
    (lab.folder(cell) / "metrics.json").unlink()
    assert toy_lab(tmp_path).finished(cell) == row  # by its row

    lab.report(replace(cell, seed=1))
    begun = len(epochs)
    assert lab.finished(replace(cell, seed=1))["seed"] == "1"  # by its run folder
    assert len(epochs) == begun == 8


def test_changed_settings_are_another_cell(tmp_path, epochs):
    lab = toy_lab(tmp_path)
    first = lab.finished(Cell("toy", "lightgcn", SETTINGS))
    wider = SETTINGS | {"model": SETTINGS["model"] | {"dim": 6}}
    second = lab.finished(Cell("toy", "lightgcn", wider))
    assert len(epochs) == 8
    assert first["digest"] != second["digest"]
    assert [json.loads(row["settings"])["model"]["dim"] for row in Store("accuracy", tmp_path / "results").rows] == [4, 6]


def test_the_digest_leaves_out_where_the_data_are_and_follows_what_a_cell_starts_from(tmp_path):
    here, there = ({"data": {"path": path, "min_rating": 3}} for path in ("here", "there"))
    assert Cell("toy", "lightgcn", here).digest == Cell("toy", "lightgcn", there).digest
    assert "here" not in cells.as_json(here)
    starts = [
        replace(Cell("toy", "lightgcn", SETTINGS), start=tmp_path / f"{name}-seed{seed}") for name, seed in ("a0", "a1", "b0")
    ]
    assert starts[0].digest == starts[1].digest != starts[2].digest


def test_what_is_remembered_is_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"value": 0.5}

    assert [cells.remembered(tmp_path / "sub" / "a.json", make) for _ in range(2)] == [{"value": 0.5}] * 2
    assert made == [1]
