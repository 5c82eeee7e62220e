import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.plant import BASELINE, BROKEN, CAUGHT, OUTCOMES, ROOT, SLOW, SURVIVED, forked, outcome_of, summarise
from tests.faults.table import Fault, locate, locate_test, read_sources, read_table

FAULTS = read_table()
SOURCES = read_sources(ROOT)


def fault(**fields):
    return Fault(**{"id": "one", "breaks": "", "file": "a.py", "old": "x > 0", "new": "x >= 0", "tests": (), **fields})


def test_every_fault_can_be_planted():
    for each in FAULTS:
        text = SOURCES[locate(each, SOURCES)]
        assert each.old != each.new
        compile(text.replace(each.old, each.new), each.id, "exec")
        assert each.tests
        assert [locate_test(test, ROOT) for test in each.tests]


def test_no_fault_uses_a_name_that_its_file_does_not_know(tmp_path):
    for each in FAULTS:
        text = SOURCES[locate(each, SOURCES)]
        (tmp_path / f"{each.id}.py").write_text(text.replace(each.old, each.new), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_baseline_names_the_faults_of_the_table():
    with BASELINE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [each.id for each in FAULTS]
    assert {row["outcome"] for row in rows} <= set(OUTCOMES)


def test_a_snippet_is_found_where_it_moved():
    assert locate(fault(), {"a.py": "if x > 0:", "b.py": "if x > 0:"}) == "a.py"
    assert locate(fault(), {"a.py": "", "b/c.py": "if x > 0:"}) == "b/c.py"


@pytest.mark.parametrize(
    "sources", [{"a.py": "x > 0 and x > 0"}, {"a.py": ""}, {"a.py": "", "b.py": "x > 0", "c.py": "x > 0"}, {"b.py": "x > 0, x > 0"}]
)
def test_a_snippet_that_is_not_there_once_is_refused_by_name(sources):
    with pytest.raises(ValueError, match=r"fault 'one': expected 'x > 0' once"):
        locate(fault(), sources)


def test_a_test_is_found_where_it_moved(tmp_path):
    (tmp_path / "tests/new").mkdir(parents=True)
    (tmp_path / "tests/new/test_a.py").touch()
    assert locate_test("tests/old/test_a.py::test_b", tmp_path) == "tests/new/test_a.py::test_b"
    with pytest.raises(ValueError, match="found 0"):
        locate_test("tests/old/test_b.py", tmp_path)


def test_outcomes():
    assert outcome_of(0, "") == SURVIVED
    assert outcome_of(1, "E       assert 1 == 2") == CAUGHT
    assert outcome_of(1, "E       NameError: name 'y' is not defined") == BROKEN
    assert outcome_of(2, "") == BROKEN
    assert outcome_of(None, "") == SLOW
    with pytest.raises(ValueError, match="could not run"):
        outcome_of(4, "no such file")


def test_a_fault_that_was_caught_and_survives_now_fails_the_run(capsys, monkeypatch, tmp_path):
    before = tmp_path / "before.csv"
    before.write_text("id,file,outcome\none,a.py,caught\ntwo,a.py,survived\n", encoding="utf-8")
    monkeypatch.setattr("tests.faults.plant.BASELINE", before)
    assert summarise({"one": ("a.py", CAUGHT), "two": ("a.py", SURVIVED)}, 1.0) == 0
    assert summarise({"one": ("b.py", SURVIVED), "two": ("a.py", SURVIVED)}, 1.0) == 1
    assert "caught before, but not now: one" in capsys.readouterr().out


def test_a_child_process_reports_its_status_and_is_ended_in_time(tmp_path: Path):
    def speak() -> int:
        subprocess.run(["echo", "hello"], check=True)
        return 7

    def hang() -> int:
        while True:
            pass

    assert forked(speak, tmp_path / "out", 30) == (7, "hello\n")
    assert forked(hang, tmp_path / "out", 0.2) == (None, "")
