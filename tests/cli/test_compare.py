"""``gmmrec compare`` from arguments to printed table."""

import argparse
import json

import pytest

from gmmrec.cli.compare import add_commands
from tests.evaluation.test_compare import write


def call(*arguments):
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    namespace = parser.parse_args(["compare", *map(str, arguments)])
    return namespace.run(namespace)


@pytest.fixture
def folders(tmp_path):
    for model, seed, quality in (("x", 0, 0.4), ("x", 1, 0.41), ("y", 0, 0.3)):
        write(tmp_path / f"{model}{seed}", model, seed, quality)
    return [tmp_path / name for name in ("x0", "x1", "y0")]


def test_prints_a_table(folders, capsys):
    assert call(*folders) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| x1", "| x0", "| y0"]
    assert lines[-1] == "ndcg@20 over 120 users, differences to x1, paired by user."


def test_prints_json(folders, capsys):
    assert call(*folders, "--json", "--metric", "recall@20", "--group-seeds", "--reference", "y0") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == "y0"
    assert [(row["run"], row["seeds"]) for row in found["rows"]] == [("x0", 2), ("y0", 1)]
    assert found["rows"][0]["difference"] == pytest.approx(0.21, abs=0.005)


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        (["--metric", "auc"], ValueError, "NAME@K"),
        (["--metric", "mrr@5"], ValueError, "has no values of 'mrr@5'"),
        (["--group", "cold items"], KeyError, "no group 'cold items'"),
        (["--reference", "z"], KeyError, "no run 'z'"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(folders, extra, error, message):
    with pytest.raises(error, match=message):
        call(*folders, *extra)
