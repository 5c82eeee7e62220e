"""Killed, damaged or full: a folder holds the old run, the new one or an unfinished one, and says which."""

import signal
from pathlib import Path

import pandas as pd
import pytest

import gmmrec
from gmmrec.cli.main import main
from gmmrec.config import to_plain
from gmmrec.errors import UsageError
from gmmrec.runs.config import read_config
from gmmrec.runs.folder import write_run
from gmmrec.runs.status import REQUIRED, state_of
from gmmrec.runs.writer import writing
from gmmrec.storage.atomic import write_json
from gmmrec.training.history import Epoch, History, HistoryFile
from tests.crashes.damage import WAYS
from tests.crashes.jobs import Job, answer, toy
from tests.crashes.kills import run_and_kill


@pytest.fixture(scope="module")
def runs():
    """Two finished runs in memory, by name."""
    return {name: gmmrec.fit(toy(), name, eval={"bootstrap": 0}) for name in ("popularity", "ease")}


def stub(run, folder, *, overwrite=False):
    """Go through the files of a training without training: settings, two epochs with their states, results."""
    with writing(folder, overwrite=overwrite) as writer:
        config = read_config(type(run.model))
        identity = {"numbers": 1, "settings": to_plain({"seed": 0}), "data": {}}
        files = writer.begin(config, identity, None, {})
        history = History("recall@20")
        for number in (1, 2):
            HistoryFile(files.history, history).append(Epoch(number, 0.1, {"loss": 1.0}, 0.5))
            write_json(files.state, {"epoch": number})
        write_run(run.stored(), writer)


def answers(run):
    return run.recommend(["u0", "u1"], k=3)


def same(first, second):
    return first.equals(second)


@pytest.mark.parametrize("over", [False, True], ids=["alone", "over a finished run"])
def test_a_kill_before_any_file_operation_leaves_one_run_or_none(runs, tmp_path, over):
    old, new = runs["ease"], runs["popularity"]
    expected = {"old": answers(old), "new": answers(new)}

    old.save(tmp_path / "old")

    def start(folder):
        if over:
            copied(tmp_path / "old", folder)
        return lambda: stub(new, folder, overwrite=over)

    whole = run_and_kill(start(tmp_path / "whole"), tmp_path / "whole")
    assert whole.error == ""
    assert whole.operations > 60
    assert same(answers(gmmrec.load(tmp_path / "whole")), expected["new"])
    seen = set()
    for number in range(1, whole.operations + 1):
        folder = tmp_path / str(number)
        assert run_and_kill(start(folder), folder, before=number).killed
        if not folder.exists() or (not over and state_of(folder) != "finished"):
            seen.add("unfinished")
            with pytest.raises(UsageError, match=r"is not finished|not a finished run|not saved completely"):
                gmmrec.load(folder)
        else:
            found = answers(gmmrec.load(folder))
            (which,) = (name for name, frame in expected.items() if same(found, frame))
            seen.add(which)
        if number % 10 == 0:  # what a killed writer leaves stands in nobody's way
            stub(new, folder, overwrite=True)
            assert same(answers(gmmrec.load(folder)), expected["new"])
            assert not [path.name for path in folder.iterdir() if "-" in path.name and not path.name.startswith(".")]
    assert seen == ({"old", "new"} if over else {"unfinished", "new"})


@pytest.mark.parametrize("name", ["lightgcn", "bert4rec", "ease"])
def test_a_real_kill_is_resumed_to_the_same_run(tmp_path, name):
    job, toys = Job(name), toy()
    assert len(toys.interactions)
    whole = run_and_kill(lambda: job.start(tmp_path / "whole"), tmp_path / "whole")
    assert whole.error == ""
    folder = tmp_path / "killed"
    assert run_and_kill(lambda: job.start(folder), folder, before=whole.operations * 2 // 3).killed
    assert state_of(folder) == "unfinished"
    job.resume(folder)
    pd.testing.assert_frame_equal(answer(folder), answer(tmp_path / "whole"))


def test_a_kill_by_sigterm_in_python_is_resumed(tmp_path):
    job = Job("lightgcn")
    folder = tmp_path / "a"
    outcome = run_and_kill(lambda: job.start(folder), folder, after=0.0, number=signal.SIGTERM)
    assert outcome.killed
    assert state_of(folder) in ("absent", "unfinished")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    gmmrec.fit(toy(), "lightgcn", out=folder, **Job("lightgcn").settings)
    return folder


def test_damage_to_any_file_is_named_and_never_answered_from(finished, tmp_path, capsys):
    expected = answer(finished)
    believed = {*REQUIRED, "attributes.json"}
    files = sorted(path.name for path in finished.iterdir() if path.is_file() and path.name != ".lock")
    ways = list(WAYS)
    for position, name in enumerate(files):
        for way in ways if name == "manifest.json" else (ways[position % 5], ways[(position + 2) % 5]):
            folder = copied(finished, tmp_path / f"{name}-{way}")
            WAYS[way](folder / name)
            code = main(["recommend", str(folder), "-k", "1"])
            said = capsys.readouterr()
            if code == 0:  # files that answers do not need
                assert name not in believed | {"manifest.json", "metrics.json"}, (name, way)
                pd.testing.assert_frame_equal(answer(folder), expected)
            else:
                assert code == 2, said.err
                assert said.err.count("\n") == 1
                assert name in said.err or name == "manifest.json"
                assert said.out == ""


def copied(folder, target):
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            Path(target / path.name).write_bytes(path.read_bytes())
    return target


def test_answers_survive_in_a_folder_that_cannot_be_written(finished, tmp_path):
    folder = copied(finished, tmp_path / "fixed")
    (folder / ".lock").unlink()
    folder.chmod(0o555)
    try:
        pd.testing.assert_frame_equal(answer(folder), answer(finished))
    finally:
        folder.chmod(0o755)
