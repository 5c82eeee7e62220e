"""Classes of one's own on the command line: typed names are imported from the working folder, all others never."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gmmrec.cli.classes import allow_working_folder
from gmmrec.cli.main import main
from gmmrec.testing import checkerboard
from tests.runs.mine import SOURCE, install

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--train.epochs", "1", "--model.dim", "8", "--train.progress", "false", "--split", "random"]
MINE, LOUD = ["-m", "shop_models:Mine"], ["--module", "fusion=shop_models:Loud"]
TRACE = "open({!r}, 'w').close()\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A working folder with data, models, and files named like modules that must not be taken for them."""
    folder = tmp_path_factory.mktemp("shop")
    dataset, _ = checkerboard(40, 30)
    log = dataset.interactions
    users, items = dataset.vocabularies["user"].ids(log.user), dataset.vocabularies["item"].ids(log.item)
    pd.DataFrame({"user": users, "item": items}).to_csv(folder / "log.csv", index=False)
    (folder / "shop_models.py").write_text(SOURCE)
    for name in ("evil", "yaml", "torch", "random", "lightgcn"):
        (folder / f"{name}.py").write_text(TRACE.format(str(folder / "trace")))
    return folder


@pytest.fixture
def here(shop, monkeypatch):
    """The working folder; what a command puts on the import path is taken off again."""
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(shop))])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield shop
    sys.modules.pop("shop_models", None)
    assert not (shop / "trace").exists()


@pytest.fixture
def run(here):
    """A run of a class from outside; the class is forgotten again."""
    if not (here / "mine").exists():
        assert main(["train", *MINE, "-d", "log.csv", "--out", "mine", *QUICK, "--json"]) == 0
        sys.modules.pop("shop_models")
        sys.path.remove(str(here))
    return "mine"


def test_the_working_folder_joins_the_import_path_last_and_only_for_typed_names(here):
    before = list(sys.path)
    allow_working_folder([])
    allow_working_folder(["lightgcn", "theirs"])
    assert sys.path == before
    allow_working_folder(["lightgcn", "shop_models:Mine"])
    allow_working_folder(["shop_models:Mine"])
    assert sys.path == [*before, str(here)]


def refuses(capsys, *arguments):
    capsys.readouterr()
    before = list(sys.path)
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "shop_models" not in sys.modules
    assert sys.path == before
    return error


def test_commands_refuse_a_class_that_was_not_typed_and_take_one_that_was(run, capsys):
    commands = (
        ["recommend", run, "--users", "u1"],
        ["similar", run, "--items", "3"],
        ["evaluate", run],
        ["explain", run, "--user", "u1", "--item", "3"],
        ["blend", run, "--out", "b"],
        ["rerank", run, run, "--out", "r"],
    )
    for command in commands:
        assert "-m shop_models:Mine on the command line" in refuses(capsys, *command), command
    for command in commands:
        assert main([*command, *MINE, "--json"]) == 0, command
        assert json.loads(capsys.readouterr().out), command
    assert main(["compare", run, "b", "r", "--metric", "recall@20", "--json"]) == 0
    for made in ("b", "r"):
        assert main(["recommend", made, "--users", "u1", *MINE]) == 0


def test_wrong_names_are_answered_in_one_sentence(run, capsys):
    sys.path.append(str(Path.cwd()))
    for name, message in {
        "shop_models:Mein": "has no 'Mein'; its models are Mine, Other",
        "shop_models:NOTHING": "shop_models:NOTHING is no model class",
        "shop_model:Mine": "cannot import 'shop_model'",
        "shop_models.py:Mine": "cannot import 'shop_models.py'",
        "lightgcm": "unknown model 'lightgcm'",
    }.items():
        for command in (["train", "-d", "log.csv"], ["recommend", run]):
            capsys.readouterr()
            assert main([*command, "-m", name]) == 2
            assert message in capsys.readouterr().err
    for text in ("fusion", "fusion=shop_models", "=shop_models:Loud"):
        assert main(["recommend", run, "--module", text]) == 2
        assert "--module takes ROLE=MODULE:NAME, such as fusion=mine:MyFusion" in capsys.readouterr().err
    assert main(["recommend", run, *MINE, "--module", "fusion=shop_models:Lod"]) == 2
    assert "has no 'Lod'" in capsys.readouterr().err


def test_a_run_goes_on_and_begins_with_another(run, capsys):
    epochs = [*QUICK[2:], "--train.epochs", "2"]
    assert main(["train", *MINE, "-d", "log.csv", "--out", run, "--resume", *epochs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["timing"]["epochs"] == 2
    start = ["train", "-m", "lightgcn", "-d", "log.csv", "--out", "second", "--init_from", run, *QUICK]
    assert main(start) == 2
    assert "or -m shop_models:Mine on the command line" in capsys.readouterr().err
    assert main([*start, *MINE, "--json"]) == 0
    capsys.readouterr()
    sys.modules.pop("shop_models")
    assert "-m shop_models:Mine on the command line" in refuses(capsys, "train", "-c", f"{run}/config.yaml", "--out", "third")


def test_parts_are_typed_by_role(here, capsys):
    fused = ["train", "-m", "graph-fusion", "-d", "log.csv", "--out", "fused", *QUICK, "--model.item_graph", "none"]
    assert main([*fused, *LOUD]) == 2
    assert "the part 'fusion' is not used" in capsys.readouterr().err  # these data have no modalities
    sys.modules.pop("shop_models")
    flow = ["--module", "encoder=gmmrec.nn:SelfLoopPropagation"]
    assert main([*fused, *flow]) == 2
    assert "the part 'encoder' is built as SelfLoopPropagation(dim, num_layers)" in capsys.readouterr().err
    decoder = ["--module", "decoder=gmmrec.nn:BilinearDecoder"]
    assert main([*fused, *decoder, "--json"]) == 0
    capsys.readouterr()
    assert "pass it: parts={'decoder': …} in Python, or --module decoder=" in refuses(capsys, "recommend", "fused")
    assert main(["recommend", "fused", "--users", "u1", *decoder]) == 0
    again = ["train", "-c", "fused/config.yaml", "--out", "again", "--json"]
    assert "fused/config.yaml holds a model with the decoder" in refuses(capsys, *again)
    assert main([*again, *decoder]) == 0
    found, expected = (json.loads(Path(name, "metrics.json").read_text())["test"] for name in ("again", "fused"))
    assert found == expected


def test_installed_classes_have_names_that_are_listed_and_trained(shop, tmp_path):
    """In a process of its own, as an installed command, from a folder whose files are named like modules."""
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    (tmp_path / "gmmrec_command.py").write_text("import sys\nfrom gmmrec.cli.main import main\nsys.exit(main())\n")

    def command(*arguments):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "PYTHONDONTWRITEBYTECODE": "1"}
        program = [sys.executable, str(tmp_path / "gmmrec_command.py"), *arguments]
        return subprocess.run(program, cwd=shop, env=environment, capture_output=True, text=True, check=False)

    listed = command("models", "--json")
    row = json.loads(listed.stdout)[-1]
    assert (row["name"], row["paper"]) == ("theirs", "in theirs-package 1.5: theirs_package:Mine")
    done = command("train", "-m", "theirs", "-d", "log.csv", "--out", "theirs", *QUICK)
    assert done.returncode == 0, done.stderr
    recommended = command("recommend", "theirs", "--users", "u1", "-k", "3", "--json")
    assert len(json.loads(recommended.stdout)["rows"]) == 3
    typed = command("train", "-m", "shop_models:Mine", "-d", "log.csv", "--out", "typed", *QUICK)
    assert typed.returncode == 0, typed.stderr
    assert not (shop / "trace").exists()  # neither evil.py nor the files named like installed modules


@pytest.mark.parametrize("name", ["evil:Class", "os:system", "evil"])
def test_names_in_settings_import_nothing(here, capsys, name):
    (here / "forged.yaml").write_text(f"model_name: '{name}'\ndata: {{path: log.csv}}\n")
    assert f"the model is of the class {name}, which comes from outside" in refuses(capsys, "train", "-c", "forged.yaml")
    assert "evil" not in sys.modules
