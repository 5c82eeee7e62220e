import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch_geometric.data import HeteroData

import gmmrec
from gmmrec.data.load import DataConfig
from gmmrec.data.split import Split
from gmmrec.errors import UsageError, WrongTypeError
from gmmrec.models.lookup import find_model
from gmmrec.runs.config import nested, read_config, sections_of
from gmmrec.runs.folder import load_split, save_split
from gmmrec.runs.recipe import run as run_experiment
from gmmrec.runs.run import Run
from gmmrec.testing import checkerboard

METRIC = "a metric is written NAME@K with NAME one of recall, ndcg, precision, hit, mrr, map (ndcg@20, say), but is {}"
QUICK = {"epochs": 3, "dim": 8, "num_layers": 1, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def toy():
    return checkerboard(40, 30)[0]


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    return gmmrec.fit(toy, "lightgcn", out=tmp_path_factory.mktemp("run"), **QUICK), toy


def test_the_report_is_complete(finished):
    run, _ = finished
    report = run.report
    for part in ("test", "valid"):
        for metric in ("recall", "ndcg", "precision", "hit", "mrr", "map"):
            for k in (5, 10, 20, 50):
                assert 0 <= report[part][f"{metric}@{k}"] <= 1
    assert report["masked"] == "train"
    assert report["dataset"] == "checkerboard"
    assert report["timing"]["seconds_per_epoch"] > 0
    assert report["timing"]["epochs"] == 3
    assert report["peak_rss_mib"] > 50
    assert report["groups"]
    json.dumps(report)


def test_a_run_is_reloaded_from_its_folder(finished, tmp_path):
    run, _ = finished
    folder = run.save(tmp_path / "copy")
    again = gmmrec.load(folder)
    pd.testing.assert_frame_equal(again.recommend(["u1", "u7"], k=5), run.recommend(["u1", "u7"], k=5))
    pd.testing.assert_frame_equal(again.similar_items([3], k=5), run.similar_items([3], k=5))
    assert again.evaluate("test").mean() == run.results["test"].mean()
    assert not [path for path in folder.iterdir() if path.suffix in (".pt", ".pkl", ".pickle")]
    assert yaml.safe_load((folder / "config.yaml").read_text())["model_name"] == "lightgcn"


def test_items_of_all_parts_count_as_seen(finished):
    run, toy = finished
    recommended = run.recommend(k=30)
    log = set(
        zip(toy.vocabularies["user"].ids(toy.interactions.user), toy.vocabularies["item"].ids(toy.interactions.item), strict=True)
    )
    assert not log & set(zip(recommended.user_id, recommended.item_id, strict=True))


def test_the_same_seed_gives_the_same_bits_without_touching_the_global_seed(toy):
    torch.manual_seed(7)
    expected_draw = torch.rand(1)
    torch.manual_seed(7)
    first, second = gmmrec.fit(toy, "lightgcn", seed=3, **QUICK), gmmrec.fit(toy, "lightgcn", seed=3, **QUICK)
    assert torch.equal(torch.rand(1), expected_draw)
    other = gmmrec.fit(toy, "lightgcn", seed=4, **QUICK)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert not torch.equal(first.model.users, other.model.users)
    assert torch.equal(first.split.test.item, other.split.test.item)  # the split has its own seed


def test_a_killed_run_resumes(toy, tmp_path):
    straight = gmmrec.fit(toy, "mgat", out=tmp_path / "a", **{**QUICK, "epochs": 4})
    gmmrec.fit(toy, "mgat", out=tmp_path / "b", **{**QUICK, "epochs": 2})
    config = read_config("mgat", nested({**QUICK, "epochs": 4}, sections_of(find_model("mgat"))))
    resumed = run_experiment(config, dataset=toy, folder=tmp_path / "b", resume=True)
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_split_round_trips(toy, tmp_path):
    log = toy.interactions
    parts = Split(log.take(torch.arange(5)), log.take(torch.arange(5, 8)), log.take(torch.arange(8, 9)))
    save_split(parts, tmp_path / "split.safetensors")
    again = load_split(tmp_path / "split.safetensors")
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(parts, part).item, getattr(again, part).item)


def test_support_of_cold_users_is_stored_and_not_recommended(toy, tmp_path):
    log = replace(toy.interactions, time=toy.interactions.user * 100 + toy.interactions.item)
    gmmrec.fit(replace(toy, interactions=log), "popularity", out=tmp_path, split={"strategy": "cold_users"})
    run = Run.load(tmp_path)
    assert run.split.support.user.unique().tolist() == [36, 37, 38, 39]
    found = run.recommend(["u39"], k=30)
    assert set(found["item_id"]) == set(range(30)) - set(log.item[log.user == 39].tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimm": 3}, "unknown setting 'dimm'; the nearest known name is 'dim'"),
        ({"dim": -3}, "dim must be greater than 0, but is -3"),
        ({"monitor": "recall"}, METRIC.format("'recall'")),
        ({"seed": "one"}, "setting 'run.seed' must be int, but is 'one'"),
    ],
)
def test_wrong_settings_are_refused_by_name(toy, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmmrec.fit(toy, "lightgcn", **settings)


@pytest.fixture
def table(tmp_path):
    """Forty users who rate thirty items 1 to 5, as a file."""
    row, column = torch.meshgrid(torch.arange(40), torch.arange(30), indexing="ij")
    frame = pd.DataFrame({"user": row.flatten(), "item": column.flatten(), "rating": ((row + column) % 5 + 1).flatten()})
    frame.to_csv(tmp_path / "log.csv", index=False)
    return tmp_path / "log.csv"


def test_data_are_read_with_the_settings(table):
    """The full path is stored, so that files next to the data are found later."""
    from_path = gmmrec.fit(table, "popularity", min_rating=4)
    from_text = gmmrec.fit(str(table), "popularity", data={"min_rating": 4})
    from_frame = gmmrec.fit(pd.read_csv(table), "popularity", min_rating=4)
    for run in (from_path, from_text, from_frame):
        assert sum(len(part.user) for part in (run.split.train, run.split.valid, run.split.test)) == 40 * 30 * 2 // 5
        assert run.config.data.min_rating == 4
    assert from_path.config.data.path == from_text.config.data.path == str(table)
    assert len(gmmrec.fit(table, "popularity").split.train.user) > len(from_path.split.train.user)


def test_settings_of_reading_need_a_path(toy, table):
    with pytest.raises(ValueError, match="'k_core', 'min_rating' concern the reading of data, but checkerboard is already loaded"):
        gmmrec.fit(toy, "popularity", k_core=2, min_rating=4)
    with pytest.raises(ValueError, match=r"leave data\.path out"):
        gmmrec.fit(table, "popularity", data={"path": "elsewhere"})


def test_an_unknown_model_is_named(toy):
    with pytest.raises(ValueError, match="unknown model 'lightgcm'; the nearest known name is 'lightgcn'"):
        gmmrec.fit(toy, "lightgcm")


def test_an_unfinished_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a finished run: run.json is missing"):
        Run.load(tmp_path)


def test_tables_are_initialised_with_the_vectors_of_another_run(finished, toy, tmp_path, caplog):
    run, _ = finished
    folder = run.save(tmp_path / "first")
    still = {**QUICK, "epochs": 1, "lr": 1e-30, "l2": 0.0}
    with caplog.at_level("INFO"):
        second = gmmrec.fit(toy, "lightgcn", init_from=folder, out=tmp_path / "second", **{**still, "num_layers": 0})
    encoded = gmmrec.load(folder).model.encode(run.graph)
    assert torch.equal(second.model.users, encoded["user"])
    assert torch.equal(second.model.items, encoded["item"])
    assert "init_from: 0 of 40 users keep their initial vectors" in caplog.messages
    assert not any("answers leak" in message for message in caplog.messages)
    assert yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())["init_from"] == str(folder)
    with caplog.at_level("WARNING"):
        gmmrec.fit(toy, "lightgcn", init_from=folder, split={"seed": 5}, **still)
    assert any("so answers leak" in message for message in caplog.messages)


def test_a_resumed_run_keeps_its_own_vectors(finished, toy, tmp_path):
    folder = finished[0].save(tmp_path / "first")
    straight = gmmrec.fit(toy, "lightgcn", out=tmp_path / "a", init_from=folder, **{**QUICK, "epochs": 4})
    gmmrec.fit(toy, "lightgcn", out=tmp_path / "b", init_from=folder, **{**QUICK, "epochs": 2})
    values = nested({**QUICK, "epochs": 4}, sections_of(find_model("lightgcn")))
    config = read_config("lightgcn", {**values, "init_from": str(folder)})
    resumed = run_experiment(config, dataset=toy, folder=tmp_path / "b", resume=True)
    assert torch.equal(straight.model.users, resumed.model.users)
    with pytest.raises(ValueError, match=r"init_from was .* and is None"):
        run_experiment(replace(config, init_from=None), dataset=toy, folder=tmp_path / "b", resume=True)


def test_init_from_refuses_runs_that_do_not_match(finished, toy, tmp_path):
    folder = finished[0].save(tmp_path / "first")
    with pytest.raises(ValueError, match="has user vectors of width 8, but those of LightGCN have width 4; give both the same dim"):
        gmmrec.fit(toy, "lightgcn", init_from=folder, dim=4)
    with pytest.raises(ValueError, match="nowhere is not a finished run"):
        gmmrec.fit(toy, "lightgcn", init_from="nowhere")


@pytest.mark.parametrize("call", [gmmrec.fit, gmmrec.load_dataset])
@pytest.mark.parametrize("source", [[("a", "b")], np.ones((4, 2)), None, 7, True, b"movies-small", {"user": [1]}, torch.ones(3, 2)])
def test_nothing_stands_in_for_what_is_no_data_set(call, source):
    with pytest.raises(
        WrongTypeError, match=rf"^{call.__name__}\(\) takes .*a pandas DataFrame .*; put the interactions into"
    ) as caught:
        call(source)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(UsageError, match="is empty; give a folder"):
        call(" ")


def test_a_graph_is_told_how_to_become_a_data_set():
    with pytest.raises(WrongTypeError, match=r"Dataset.from_pyg"):
        gmmrec.fit(HeteroData(), "popularity")


def test_complete_settings_of_data_are_read(table):
    run = gmmrec.fit(DataConfig(path=str(table), min_rating=4), "popularity", bootstrap=0)
    assert (run.config.data.path, run.config.data.min_rating) == (str(table), 4)


def test_models_of_histories_leave_the_last_out_unless_a_random_split_is_named(toy):
    log = toy.interactions
    timed = replace(toy, interactions=replace(log, time=1_600_000_000 + torch.arange(len(log)), nanosecond=log.item))
    settings = {"dim": 4, "epochs": 1, "progress": False, "bootstrap": 0}
    assert gmmrec.fit(timed, "bert4rec", **settings).config.split.strategy == "leave_last_out"
    assert gmmrec.fit(timed, "bert4rec", split={"strategy": "random"}, **settings).config.split.strategy == "random"
    assert gmmrec.fit(timed, "lightgcn", **settings).config.split.strategy == "random"


@pytest.mark.parametrize("times", ["nanosecond", "order"])
def test_exact_times_and_orders_round_trip(toy, tmp_path, times):
    log = toy.interactions.take(torch.arange(6))
    seconds = {"time": torch.arange(6)} if times == "nanosecond" else {}
    log = replace(log, **seconds, **{times: torch.arange(6) + 5})
    save_split(Split(log, log, log), tmp_path / "split.safetensors")
    again = load_split(tmp_path / "split.safetensors").train
    assert torch.equal(again.moment, log.moment)
    assert (again.time is None) == (times == "order")
