"""Settings are chosen on validation from the declared grid; a changed grid is searched again."""

import json

import pytest
import yaml

from lab import grid, search
from lab.cells import Cell
from tests.benchmarks.toy import SETTINGS, toy_lab


def declare(lab, dims):
    (lab.configs / "toy").mkdir(parents=True, exist_ok=True)
    declared = SETTINGS | {"monitor": "ndcg@20", "grid": {"model.dim": dims}}
    (lab.configs / "toy" / "lightgcn.yaml").write_text(yaml.safe_dump(declared))


def test_points_are_shared_settings_then_the_models_then_the_grids(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "dataset.yaml").write_text("data: {path: elsewhere, min_rating: 3}\neval: {mask: train}\n")
    (tmp_path / "toy" / "m.yaml").write_text("eval: {bootstrap: 0}\nmodel: {dim: 2}\ngrid: {model.dim: [4, 8], train.lr: [1]}\n")
    common = {"data": {"min_rating": 3}, "eval": {"mask": "train", "bootstrap": 0}, "train": {"lr": 1}}
    assert grid.points("toy", "m", tmp_path) == [common | {"model": {"dim": dim}} for dim in (4, 8)]
    assert grid.path_of("toy", tmp_path / "data", tmp_path).endswith("data/elsewhere")
    assert grid.points("toy", "nobody", tmp_path) == []
    with pytest.raises(ValueError, match=r"expected the settings of nobody in .*nobody\.yaml"):
        grid.first_point("toy", "nobody", tmp_path)


def test_the_best_point_on_validation_is_run_with_all_seeds(tmp_path):
    lab = toy_lab(tmp_path)
    declare(lab, [2, 4])
    search.search(lab, "toy", "lightgcn", [0, 1])
    tried = {json.loads(row["settings"])["model"]["dim"]: float(row["ndcg@20"]) for row in lab.store.select(part="valid")}
    assert set(tried) == {2, 4}
    best = max(tried, key=lambda dim: tried[dim])
    rows = lab.store.select(part="test")
    assert [(json.loads(row["settings"])["model"]["dim"], row["seed"], row["points"]) for row in rows] == [
        (best, "0", "2"),
        (best, "1", "2"),
    ]
    assert search.spent(lab, "toy").startswith("All 3 runs took 0.0 hours")


def test_a_finished_search_runs_nothing_and_a_changed_grid_is_searched_again(tmp_path, monkeypatch):
    lab = toy_lab(tmp_path)
    declare(lab, [2])
    settings = grid.points("toy", "lightgcn", lab.configs)[0]
    summary = {"dataset": "toy", "model": "lightgcn", "digest": grid.digest(settings), "part": "test", "runs": 3, "points": 1}
    lab.store.put(summary | {"settings": json.dumps(settings), "recall@20": "0.5", "epochs": 4})
    asked = []
    monkeypatch.setattr(lab, "report", lambda cell: asked.append(cell) or pytest.fail("nothing is to be run"))
    search.search(lab, "toy", "lightgcn", [0, 1, 2])
    assert not asked

    monkeypatch.undo()
    declare(lab, [4])
    search.search(lab, "toy", "lightgcn", [0])
    (row,) = lab.store.select(part="test")
    assert row["digest"] == Cell("toy", "lightgcn", grid.points("toy", "lightgcn", lab.configs)[0]).digest
    assert not search.is_declared(lab, "toy", "lightgcn", grid.digest(settings))
