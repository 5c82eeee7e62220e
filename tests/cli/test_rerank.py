"""``gmmrec rerank`` from arguments to a run folder."""

import json

import pytest

import gmmrec
from gmmrec.cli.main import main
from gmmrec.testing import checkerboard


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base, toy = tmp_path_factory.mktemp("runs"), checkerboard(40, 30)[0]
    gmmrec.fit(toy, "popularity", out=base / "a")
    gmmrec.fit(toy, "lightgcn", out=base / "b", epochs=2, dim=8, progress=False)
    return [str(base / "a"), str(base / "b")]


def test_the_result_can_be_used_like_any_run(folders, tmp_path, capsys):
    out = str(tmp_path / "c")
    assert main(["rerank", *folders, "--top", "7", "--out", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "two-stage"
    assert report["rerank"] == {"runs": folders, "models": ["popularity", "lightgcn"], "top": 7}
    for command in (["evaluate", out], ["recommend", out, "--users", "u1"], ["similar", out, "--items", "2"]):
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        if command[0] == "evaluate":
            assert found["test"] == pytest.approx(report["test"])
    assert main(["compare", out, *folders, "--group-seeds"]) == 0
    assert "| c |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere is not a finished run"), (["--top", "0"], "top must be greater than 0, but is 0")],
)
def test_mistakes_are_reported_in_one_sentence(folders, tmp_path, capsys, arguments, message):
    known = folders[:1] if arguments == ["nowhere"] else folders
    assert main(["rerank", *known, *arguments, "--out", str(tmp_path / "c")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
