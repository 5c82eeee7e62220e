"""Old names are refused with their new ones, and all others pass."""

import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module

import pytest

import gmmrec
from gmmrec.cli.main import main
from gmmrec.config import read_settings
from gmmrec.evaluation.kinds import KINDS, task_of_metric
from gmmrec.models.lightgcn import LightGCN
from gmmrec.renamed import RENAMED, refuse_renamed
from gmmrec.runs.config import RunConfig, nested, read_config, sections_of
from gmmrec.runs.run import Run

CLASSES = {old: new for old, new in RENAMED.items() if old.rpartition(".")[2][0].isupper() and old.startswith("gmmrec.")}
MODULES = {old: new for old, new in RENAMED.items() if old.startswith("gmmrec.") and old not in CLASSES}
ATTRIBUTES = {old: new for old, new in RENAMED.items() if old.startswith("Run.")}
SETTINGS = {old: new for old, new in RENAMED.items() if old.count(".") == 1 and old not in {*MODULES, *CLASSES, *ATTRIBUTES}}


@dataclass(frozen=True)
class Lengths:
    max_length: int = 5


@pytest.fixture
def shorter(monkeypatch):
    monkeypatch.setitem(RENAMED, "model.max_len", "model.max_length")
    monkeypatch.setitem(RENAMED, "--nearest", "--knn")


def test_an_old_name_is_refused_and_its_new_name_passes(monkeypatch):
    monkeypatch.setitem(RENAMED, "max_len", "max_length")
    with pytest.raises(ValueError, match="'max_len' is now called 'max_length'"):
        refuse_renamed("max_len")
    with pytest.raises(ValueError, match="'blanks/accuracy' is now called 'fill_in_the_blank/accuracy'"):
        refuse_renamed("blanks/accuracy")
    for name in ("max_length", "fill_in_the_blank/accuracy", "blanks", "recall@20", "other/blanks", "exams", "run", "links"):
        refuse_renamed(name)


def test_no_new_name_is_an_old_one():
    assert not set(RENAMED) & set(RENAMED.values())


def test_every_entry_is_of_a_known_kind():
    rest = set(RENAMED) - set(MODULES) - set(CLASSES) - set(ATTRIBUTES) - set(SETTINGS)
    assert all(old.endswith("/") for old in rest)  # add a test of the new names for whatever else comes


@pytest.mark.parametrize("old", MODULES)
def test_modules_that_moved_are_told(old):
    import_module(MODULES[old])
    with pytest.raises(ModuleNotFoundError, match=f"^'{old}' is now called '{MODULES[old]}'$"):
        import_module(old)


@pytest.mark.parametrize("old", CLASSES)
def test_classes_that_were_renamed_are_told(old):
    (module, _, name), (home, _, new) = old.rpartition("."), CLASSES[old].rpartition(".")
    assert getattr(import_module(home), new).__name__ == new
    with pytest.raises(ImportError, match=f"^'{old}' is now called '{CLASSES[old]}'$"):
        exec(f"from {module} import {name}", {})
    with pytest.raises(ImportError, match=f"cannot import name '{name}s'"):
        exec(f"from {module} import {name}s", {})


def test_old_names_of_the_package_are_told():
    with pytest.raises(AttributeError, match=r"^'gmmrec.experiment' is now called 'gmmrec.runs.recipe'$"):
        gmmrec.experiment  # noqa: B018
    with pytest.raises(AttributeError, match=r"^'gmmrec' has no attribute 'experiments'$"):
        gmmrec.experiments  # noqa: B018
    code = "import gmmrec.data.sources.table"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("'gmmrec.data.sources' is now called 'gmmrec.data.formats'")


@pytest.mark.parametrize("old", ATTRIBUTES)
def test_old_attributes_of_runs_are_told(old):
    first, *rest = ATTRIBUTES[old].removeprefix("Run.").split(".")
    assert first in Run.__dataclass_fields__
    assert all(name in RunConfig.__dataclass_fields__ for name in rest)
    run = object.__new__(Run)
    with pytest.raises(AttributeError, match=f"^'{old}' is now called '{ATTRIBUTES[old]}'$"):
        getattr(run, old.removeprefix("Run."))
    with pytest.raises(AttributeError, match=r"^'Run' has no attribute 'nothing'$"):
        run.nothing  # noqa: B018


def test_old_metrics_are_told():
    for old in ("blanks/accuracy", "links/mrr", "ratings/rmse"):
        with pytest.raises(ValueError, match=f"^'{old}' is now called"):
            task_of_metric(old)
        refuse_renamed(RENAMED[old.partition("/")[0] + "/"])
    assert KINDS


@pytest.mark.parametrize("old", SETTINGS)
def test_renamed_settings_exist_under_their_new_names(old):
    section, field = SETTINGS[old].split(".")
    known = sections_of(LightGCN)[section].__dataclass_fields__
    assert field in known
    assert old.rpartition(".")[2] not in known
    with pytest.raises(ValueError, match=f"^'{old}' is now called '{SETTINGS[old]}'$"):
        read_config("lightgcn", {}, [f"--{old}", "0"])


def test_old_settings_are_told_wherever_they_are_typed(shorter):
    message = "^'model.max_len' is now called 'model.max_length'$"
    with pytest.raises(ValueError, match=message):
        read_settings({"model": Lengths}, {"model": {"max_len": 3}})
    with pytest.raises(ValueError, match=message):
        read_settings({"model": Lengths}, {}, ["--model.max_len", "3"])
    with pytest.raises(ValueError, match=r"^'max_len' is now called 'max_length'$"):
        nested({"max_len": 3}, {"model": Lengths})
    with pytest.raises(ValueError, match=r"^unknown setting 'model.max'; the nearest"):
        read_settings({"model": Lengths}, {"model": {"max": 3}})


def test_old_flags_are_told(shorter, capsys):
    for arguments in (["graph", "-d", "movies-small", "--nearest=3"], ["models", "--nearest"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "--nearest is now called --knn" in capsys.readouterr().err
