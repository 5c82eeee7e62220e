"""A folder holds one run; what is in it is never mixed, and never lost without being asked."""

import errno
import json
import logging
import os
import re
import stat

import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.cli.main import main
from gmmrec.errors import UsageError
from gmmrec.runs import folder as run_folder
from gmmrec.runs.config import read_config
from gmmrec.runs.recipe import run
from gmmrec.runs.status import read_status, state_of
from gmmrec.runs.writer import environment_changes
from gmmrec.storage.lock import locked
from gmmrec.testing import checkerboard
from gmmrec.training.trainer import TrainingStopped

QUICK = {"dim": 8, "num_layers": 1, "train": {"batch_size": 256, "progress": False}, "eval": {"bootstrap": 0}}


@pytest.fixture(scope="module")
def toy():
    return checkerboard(40, 30)[0]


@pytest.fixture(scope="module")
def log(toy):
    users, items = (toy.vocabularies[kind].ids(getattr(toy.interactions, kind)) for kind in ("user", "item"))
    return pd.DataFrame({"user": [f"u{u}" for u in users], "item": [f"i{i}" for i in items]})


def config_of(epochs, **sections):
    values = {"model": {"dim": 8, "num_layers": 1}, "eval": {"bootstrap": 0}}
    return read_config("lightgcn", {**values, **sections, "train": {"batch_size": 256, "progress": False, "epochs": epochs}})


def stopped_after(epochs, toy, folder, **settings):
    """Train until a number of epochs is reached, as after Ctrl-C."""
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) == epochs

    with pytest.raises(TrainingStopped):
        run(config_of(5), dataset=toy, folder=folder, should_stop=should_stop, **settings)


def test_a_folder_with_a_run_is_refused(toy, tmp_path):
    made = gmmrec.fit(toy, "ease", out=tmp_path / "a", eval={"bootstrap": 0})
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    sentence = r"holds a finished run of ease; resume it .*, replace it with --overwrite, or give another folder"
    for again in (lambda: gmmrec.fit(toy, "popularity", out=tmp_path / "a"), lambda: made.save(tmp_path / "a")):
        with pytest.raises(UsageError, match=sentence):
            again()
    with pytest.raises(UsageError, match=sentence):
        gmmrec.blend([made, made], weights=[1, 1], out=tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    stopped_after(1, toy, tmp_path / "b")
    with pytest.raises(UsageError, match="holds an unfinished run of lightgcn; resume it"):
        gmmrec.fit(toy, "ease", out=tmp_path / "b")


def test_an_overwritten_run_leaves_nothing_behind(toy, log, tmp_path):
    films = pd.DataFrame({"item": sorted(set(log["item"])), "title": [f"film {i}" for i in range(log["item"].nunique())]})
    titled = gmmrec.load_dataset(log, items=films)
    gmmrec.fit(titled, "lightgcn", epochs=2, out=tmp_path / "a", **QUICK)
    assert "title" in gmmrec.load(tmp_path / "a").recommend(k=1)
    gmmrec.fit(toy, "ease", out=tmp_path / "a", overwrite=True, eval={"bootstrap": 0})
    found = gmmrec.load(tmp_path / "a")
    assert "title" not in found.recommend(k=1)
    assert found.config.model_name == "ease"
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names.isdisjoint({"history.csv", "training_state.safetensors", "tensorboard"})
    assert not [name for name in names if "-" in name]  # every file has its usual name


def test_the_old_run_answers_until_the_new_one_is_complete(toy, tmp_path, caplog):
    folder = tmp_path / "a"
    gmmrec.fit(toy, "ease", out=folder, eval={"bootstrap": 0})
    before = gmmrec.load(folder).recommend(k=5)
    stopped_after(2, toy, folder, overwrite=True)
    pd.testing.assert_frame_equal(gmmrec.load(folder).recommend(k=5), before)
    assert "a newer run of lightgcn in it is not finished" in caplog.text
    made = gmmrec.fit(toy, out=folder, resume=True)
    assert len(made.history.epochs) == 5
    assert gmmrec.load(folder).config.model_name == "lightgcn"
    straight = gmmrec.fit(toy, "lightgcn", epochs=5, **QUICK)
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), made.model.parameters(), strict=True))


def test_a_stopped_run_knows_itself_and_goes_on(toy, tmp_path):
    stopped_after(2, toy, tmp_path / "a")
    assert state_of(tmp_path / "a") == "unfinished"
    assert {"config.yaml", "run.json", "history.csv", "training_state.safetensors"} <= {p.name for p in (tmp_path / "a").iterdir()}
    with pytest.raises(UsageError, match=re.escape('resume it in Python with gmmrec.fit(data, "lightgcn", out="')):
        gmmrec.load(tmp_path / "a")
    made = gmmrec.fit(toy, out=tmp_path / "a", resume=True)  # model and settings are those of the run
    straight = gmmrec.fit(toy, "lightgcn", epochs=5, **QUICK)
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), made.model.parameters(), strict=True))
    assert [epoch.number for epoch in made.history.epochs] == [1, 2, 3, 4, 5]
    assert len(pd.read_csv(tmp_path / "a" / "history.csv")) == 5
    longer = gmmrec.fit(toy, out=tmp_path / "a", resume=True, epochs=7)  # a finished run goes on too
    assert len(longer.history.epochs) == 7
    assert len(pd.read_csv(tmp_path / "a" / "history.csv")) == 7


def test_another_run_is_not_resumed(toy, log, tmp_path):
    folder = tmp_path / "a"
    stopped_after(2, toy, folder)
    state = (folder / "training_state.safetensors").read_bytes()
    wrong = (
        ({"split": {"seed": 9}}, r"split\.seed was 0 and is 9; the train interactions differ; .*the test interactions differ"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"train": {"batch_size": 128}}, r"train\.batch_size was 256 and is 128"),
        ({"train": {"num_negatives": 2}}, r"train\.num_negatives was 1 and is 2"),
        ({"graph": {"knn": 3}}, r"graph\.knn was 0 and is 3"),
        ({"monitor": "ndcg@10"}, "monitor was recall@20 and is ndcg@10"),
    )
    for settings, sentence in wrong:
        with pytest.raises(UsageError, match=sentence):
            gmmrec.fit(toy, out=folder, resume=True, **settings)
    with pytest.raises(UsageError, match="model_name was lightgcn and is mgat"):
        gmmrec.fit(toy, read_config("mgat").model_class, out=folder, resume=True, dim=8)
    with pytest.raises(UsageError, match="the user ids differ"):
        gmmrec.fit(log, out=folder, resume=True)
    assert (folder / "training_state.safetensors").read_bytes() == state
    assert len(gmmrec.fit(toy, out=folder, resume=True).history.epochs) == 5


def test_a_log_in_another_order_is_another_run(log, tmp_path):
    folder = tmp_path / "a"
    with pytest.raises(TrainingStopped):
        run(config_of(5), dataset=gmmrec.load_dataset(log), folder=folder, should_stop=lambda: True)
    with pytest.raises(UsageError, match=r"holds another run, which cannot be resumed: .*interactions differ"):
        gmmrec.fit(log.iloc[::-1].reset_index(drop=True), out=folder, resume=True)


def test_data_at_another_path_are_the_same_run(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log.to_csv("log.csv", index=False)
    flags = ["--model.dim", "8", "--train.progress", "false", "--eval.bootstrap", "0"]
    assert main(["train", "-m", "lightgcn", "-d", "log.csv", "--out", "a", "--train.epochs", "2", *flags]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--resume", "../a", "--train.epochs", "3"]) == 0  # a relative path is found again
    (tmp_path / "log.csv").rename(tmp_path / "moved.csv")
    assert main(["train", "--resume", "../a", "--train.epochs", "4"]) == 2
    assert main(["train", "--resume", "../a", "--train.epochs", "4", "-d", "../moved.csv"]) == 0
    assert len(pd.read_csv(tmp_path / "a" / "history.csv")) == 4


def test_a_run_stopped_before_its_first_state_begins_anew(toy, tmp_path, caplog):
    folder = tmp_path / "a"
    stopped_after(1, toy, folder)
    (folder / "training_state.safetensors").unlink()
    made = gmmrec.fit(toy, out=folder, resume=True)
    assert "no epoch of this run was saved; it begins anew" in caplog.text
    straight = gmmrec.fit(toy, "lightgcn", epochs=5, **QUICK)
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), made.model.parameters(), strict=True))


def test_a_damaged_state_is_refused(toy, tmp_path):
    folder = tmp_path / "a"
    stopped_after(2, toy, folder)
    state = folder / "training_state.safetensors"
    data = bytearray(state.read_bytes())
    data[-9] ^= 1  # in a tensor, where safetensors sees nothing
    state.write_bytes(data)
    with pytest.raises(UsageError, match=r"training_state\.safetensors is damaged: its content is not what was written"):
        gmmrec.fit(toy, out=folder, resume=True)


def test_what_cannot_be_resumed_is_refused_in_one_sentence(toy, tmp_path):
    with pytest.raises(UsageError, match=r"there is no run in .*nothing to resume; begin one without --resume"):
        gmmrec.fit(toy, "ease", out=tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()
    made = gmmrec.fit(toy, "ease", out=tmp_path / "a", eval={"bootstrap": 0})
    with pytest.raises(UsageError, match="is finished, and its training state is gone; train it again with --overwrite"):
        gmmrec.fit(toy, out=tmp_path / "a", resume=True)
    gmmrec.blend([made, made], weights=[1, 1], out=tmp_path / "b")
    with pytest.raises(UsageError, match="holds a blend, which is made at once and not resumed"):
        gmmrec.fit(toy, out=tmp_path / "b", resume=True)
    with pytest.raises(UsageError, match="give one of --resume and --overwrite"):
        gmmrec.fit(toy, "ease", out=tmp_path / "a", resume=True, overwrite=True)
    with pytest.raises(UsageError, match="concern a run folder, but none is given"):
        gmmrec.fit(toy, "ease", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; give a folder for the run"):
        gmmrec.fit(toy, "ease", out=tmp_path / "file")


def test_one_writer_at_a_time(toy, tmp_path):
    with locked(tmp_path / "a"), pytest.raises(UsageError, match=rf"a is being written by process {os.getpid()} "):
        gmmrec.fit(toy, "ease", out=tmp_path / "a")
    stopped_after(1, toy, tmp_path / "b")
    with locked(tmp_path / "b"), pytest.raises(UsageError, match=f"is being written by process {os.getpid()} .*; wait for it"):
        gmmrec.load(tmp_path / "b")


def test_a_run_that_fails_before_its_first_state_leaves_the_folder_as_it_was(toy, tmp_path, monkeypatch):
    with pytest.raises(UsageError):
        gmmrec.fit(toy, "lightgcn", out=tmp_path / "new", monitor="impressions/auc")
    assert not (tmp_path / "new").exists()
    folder = tmp_path / "a"
    gmmrec.fit(toy, "ease", out=folder, eval={"bootstrap": 0})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(model, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_folder, "save_graph", full)
    with pytest.raises(OSError, match="No space left"):
        gmmrec.fit(toy, "popularity", out=folder, overwrite=True, eval={"bootstrap": 0})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_files_of_others_are_never_touched(toy, tmp_path):
    mine = {"config.yaml": "a: 1", "metrics.json": "{}", "model.safetensors": "x", "notes.txt": "keep"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    gmmrec.fit(toy, "ease", out=tmp_path, eval={"bootstrap": 0})
    gmmrec.fit(toy, "popularity", out=tmp_path, eval={"bootstrap": 0}, overwrite=True)
    assert gmmrec.load(tmp_path).config.model_name == "popularity"
    assert {name: (tmp_path / name).read_text() for name in mine} == mine
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "run.json").write_text('{"scripts": {}}')
    with pytest.raises(UsageError, match=r"run\.json was not written by gmmrec; give another folder"):
        gmmrec.fit(toy, "ease", out=tmp_path / "web")


def test_texts_survive(log, tmp_path):
    names = ["NA", "None", "null", "nan", "007", "1e3", "TRUE", ""]
    ids = sorted(set(log["item"]))
    items = pd.DataFrame({"item": ids, "title": [names[i % len(names)] for i in range(len(ids))], "code": "0012"})
    made = gmmrec.fit(gmmrec.load_dataset(log, items=items), "popularity", out=tmp_path / "a", eval={"bootstrap": 0})
    again = gmmrec.load(tmp_path / "a")
    pd.testing.assert_frame_equal(again.recommend(k=9), made.recommend(k=9))
    assert set(again.recommend(k=30)["title"]) == set(names)
    assert again.attributes["item"]["code"].tolist() == made.attributes["item"]["code"].tolist()


def test_other_threads_and_devices_are_warned_of_once(toy, tmp_path, caplog):
    folder = tmp_path / "a"
    stopped_after(1, toy, folder)
    status = read_status(folder)
    status.environment = {"threads": 99, "device": "cpu"}
    status.write(folder)
    with caplog.at_level(logging.WARNING):
        gmmrec.fit(toy, out=folder, resume=True)
    assert caplog.text.count("the last bits may differ") == 1
    assert f"threads were 99 and are {torch.get_num_threads()}" in caplog.text
    assert environment_changes({"threads": 1, "device": "cpu"}, {"threads": 1, "device": "cuda"}) == "device was cpu and is cuda"


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_permissions_follow_the_umask(toy, tmp_path, mask):
    before = os.umask(mask)
    try:
        gmmrec.fit(toy, "lightgcn", epochs=1, out=tmp_path / "a", **QUICK)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "a").iterdir() if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~mask}


def test_the_manifest_lists_what_is_there(toy, tmp_path):
    gmmrec.fit(toy, "lightgcn", epochs=1, out=tmp_path / "a", **QUICK)
    about = json.loads((tmp_path / "a" / "manifest.json").read_text())
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {*about["files"], *about["own"], "manifest.json", ".lock"} == names
    assert about["about"]["run"] == json.loads((tmp_path / "a" / "run.json").read_text())["run"]
