"""``gmmrec blend`` from arguments to a run folder."""

import json

import pytest

import gmmrec
from gmmrec.cli.main import main
from gmmrec.testing import checkerboard


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base, toy = tmp_path_factory.mktemp("runs"), checkerboard(40, 30)[0]
    gmmrec.fit(toy, "lightgcn", out=base / "a", epochs=2, dim=8, progress=False)
    gmmrec.fit(toy, "popularity", out=base / "b")
    return [str(base / "a"), str(base / "b")]


def test_the_blend_can_be_used_like_any_run(folders, tmp_path, capsys):
    out = str(tmp_path / "c")
    assert main(["blend", *folders, "--out", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "blend"
    assert report["blend"]["runs"] == folders
    for command in (["evaluate", out], ["recommend", out, "--users", "u1"], ["similar", out, "--items", "2"]):
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        if command[0] == "evaluate":
            assert found["test"] == pytest.approx(report["test"])
    assert main(["compare", out, *folders, "--group-seeds"]) == 0
    assert "| c |" in capsys.readouterr().out


def test_weights_are_printed_and_may_be_given(folders, tmp_path, capsys):
    assert main(["blend", *folders, "--out", str(tmp_path / "c"), "--weights", "3,1", "--scale", "ranks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f" 0.750  {folders[0]}", f" 0.250  {folders[1]}"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--weights", "a,b"], "--weights takes numbers separated by commas, such as 0.3,0.7, but got 'a,b'"),
        (["--metric", "auc"], "a metric is written NAME@K"),
        (["nowhere"], "nowhere is not a finished run"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(folders, tmp_path, capsys, extra, message):
    assert main(["blend", *folders, *extra, "--out", str(tmp_path / "c")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
