"""The same flags on every command that reads data."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

import gmmrec
from gmmrec.cli.main import main
from gmmrec.cli.settings import SHORT, expand
from gmmrec.config import read_settings
from gmmrec.data.load import DataConfig
from gmmrec.data.split import SplitConfig
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.build import GraphConfig
from gmmrec.models import CARDS

SECTIONS = {"data": DataConfig, "split": SplitConfig, "graph": GraphConfig}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Unusual column names; every user has three of the five items, two of them at least twice."""
    folder = tmp_path_factory.mktemp("shop")
    pairs = [(f"u{user}", f"i{(user + step) % 5}") for user in range(8) for step in range(3)]
    pd.DataFrame(pairs, columns=["who", "what"]).to_csv(folder / "interactions.csv", index=False)
    pd.DataFrame({"item": [f"i{n}" for n in range(5)], "label": [f"shirt {n}" for n in range(5)]}).to_csv(
        folder / "items.csv", index=False
    )
    return folder


COLUMNS = ["--user-column", "who", "--data.item_column", "what", "--title-column=label"]


def test_short_forms_map_to_existing_settings():
    for flag, setting in SHORT.items():
        section, field = setting[2:].split(".")
        assert field in set(vars(SECTIONS[section]())), flag


def test_hyphens_and_underscores_are_equivalent():
    assert expand(["--user_column", "a_b", "--title-column=x-y"]) == ["--data.user_column", "a_b", "--data.title_column=x-y"]


def test_describe_graph_and_train_take_the_same_flags(shop, tmp_path, capsys):
    assert main(["data", "describe", "-d", str(shop), *COLUMNS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["users"] == 8
    assert main(["graph", "-d", str(shop), *COLUMNS, "--split", "random", "--co-occurrence", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nodes"]["user"]["count"] == 8
    assert any("co_occurs" in name for name in report["edges"])
    out = tmp_path / "run"
    flags = [*COLUMNS, "--split", "random", "--eval.ks", "2,3", "--eval.metrics=recall"]
    assert main(["train", "-m", "popularity", "-d", str(shop), "--out", str(out), *flags, "--json"]) == 0
    assert {"recall@2", "recall@3"} <= set(json.loads(capsys.readouterr().out)["test"])
    assert main(["recommend", str(out), "--users", "u1", "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["title"].startswith("shirt ")


def test_a_missing_title_column_is_refused(shop, capsys):
    assert (
        main(["data", "describe", "-d", str(shop), "--user-column", "who", "--item-column", "what", "--title-column", "labl"]) == 2
    )
    assert "no item column 'labl' for title_column (did you mean 'label'?)" in capsys.readouterr().err


def test_lists_are_read_with_and_without_brackets():
    for value in ("3,4", "[3,4]"):
        assert read_settings({"eval": EvalConfig}, {}, ["--eval.ks", value])["eval"].ks == (3, 4)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"gmmrec {gmmrec.__version__}\n"


def test_help_of_a_nested_command_shows_its_full_name(capsys):
    with pytest.raises(SystemExit):
        main(["models", "--bogus"])
    assert "see 'gmmrec models --help'" in capsys.readouterr().err
    assert main(["data", "convert", "-d", "movies-small", "--to", "folder", "--out", "x", "--bogus", "1"]) == 2
    assert capsys.readouterr().err.startswith("gmmrec data convert: unknown setting")


def test_the_table_of_models_is_printed_without_torch():
    code = (
        "import sys; from gmmrec.cli.main import main; main(['models']); assert not {'torch', 'torch_geometric'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == list(CARDS)


def test_a_closed_pipe_is_not_an_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "gmmrec", "models"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
