"""The state of a folder, and the remedy for one that is not finished."""

import json
from pathlib import Path

import pandas as pd
import pytest

import gmmrec
from gmmrec.errors import UsageError
from gmmrec.runs.status import Status, open_run, read_status, resume_remedy, state_of
from tests.runs.folders import listed_again

OLD = Path(__file__).parent / "format2"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_runs_of_format_2_are_read(name):
    found = gmmrec.load(OLD / name).recommend(["u03", "u07"], k=3)
    expected = pd.DataFrame(EXPECTED[name])
    assert state_of(OLD / name) == "finished"
    pd.testing.assert_frame_equal(
        found[["user_id", "item_id", "rank"]], expected[["user_id", "item_id", "rank"]], check_dtype=False
    )
    assert found["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), rel=1e-5)


def test_status_files_that_cannot_be_believed_are_refused(tmp_path):
    about = {"format": 3, "run": "1", "model": "ease", "status": "training"}
    wrong = (
        ("{", "is damaged"),
        ("[]", "was not written by gmmrec"),
        ('{"scripts": {"start": "web"}}', "was not written by gmmrec"),
        (json.dumps({**about, "format": 9}), "has the format 9, but this gmmrec"),
        (json.dumps({**about, "format": "x"}), "has the format x, but this gmmrec"),
        (json.dumps({"format": 3}), "it has no run, model and status"),
        (json.dumps({**about, "identity": []}), "it has no run, model and status"),
        (json.dumps({**about, "files": {"config.yaml": "../../secret"}}), "its files are not in this folder"),
        (json.dumps({**about, "files": {"config.yaml": 3}}), "its files are not in this folder"),
        (json.dumps({**about, "files": {"config.yaml": ".."}}), "its files are not in this folder"),
    )
    for text, message in wrong:
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_status(tmp_path)


def test_a_folder_is_absent_unfinished_or_finished(tmp_path):
    assert state_of(tmp_path) == "absent"
    Status("1", "ease", identity={"numbers": 1}).write(tmp_path)
    assert state_of(tmp_path) == "unfinished"
    with pytest.raises(UsageError, match=r"^the run of ease in .* is not finished; resume it in Python with gmmrec\.fit\(data, "):
        open_run(tmp_path)
    Status("1", "blend").write(tmp_path)
    with pytest.raises(UsageError, match=r"^the blend in .* was not saved completely; make it again with --overwrite"):
        open_run(tmp_path)


def test_the_remedy_names_what_is_needed():
    folder = Path("runs/a")
    assert resume_remedy(folder, Status("1", "ease", data="/d")) == "resume it with 'gmmrec train --resume runs/a'"
    assert (
        resume_remedy(folder, Status("1", "shop:Mine", data="/d")) == "resume it with 'gmmrec train --resume runs/a -m shop:Mine'"
    )
    in_python = 'resume it in Python with gmmrec.fit(data, "ease", out="runs/a", resume=True)'
    assert resume_remedy(folder, Status("1", "ease")) == in_python
    assert resume_remedy(folder, Status("1", "__main__:Mine")) == in_python.replace('"ease"', "Mine")


def test_a_manifest_of_something_else_is_no_run(tmp_path):
    gmmrec.load(OLD / "run").save(tmp_path / "run")
    text = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**text, "about": {"kind": "data"}}))
    with pytest.raises(UsageError, match="holds 'data', not a run; give the folder of a run"):
        gmmrec.load(tmp_path / "run")


def test_a_run_of_format_2_gives_way_when_it_is_replaced(tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(OLD / "run", folder)
    (folder / "mine.txt").touch()
    with pytest.raises(UsageError, match="holds a finished run; replace it with --overwrite, or give another folder"):
        gmmrec.load(OLD / "ease").save(folder)
    gmmrec.load(OLD / "ease").save(folder, overwrite=True)
    assert gmmrec.load(folder).config.model_name == "ease"
    assert not (folder / "items.csv").exists()  # the old run's
    assert (folder / "mine.txt").exists()
    listed_again(folder)
