"""Long fuzzing of a planted target: counts, restarts, kept cases."""

import json
import os
import signal

import pytest
from hypothesis import strategies as st

from tests.fuzz import __main__ as command
from tests.fuzz import long
from tests.fuzz.case import Case
from tests.fuzz.verdict import Target

CASES = st.lists(st.integers(0, 50), max_size=6).map(lambda found: Case({}, {"numbers": found}))


def planted(case, folder):
    if sum(case.spec["numbers"]) > 60:
        raise ZeroDivisionError("too much")


def killed(case, folder):
    if len(case.spec["numbers"]) > 4:
        os.kill(os.getpid(), signal.SIGKILL)


TARGET = Target("planted", CASES, planted)


def test_counts_and_the_smallest_case(tmp_path):
    out = tmp_path / "a.jsonl"
    results = long.run([TARGET], 300, 0, out)
    assert sum(result.cases for result in results) == 300
    faults = sum(count for result in results for count in result.faults.values())
    assert 0 < faults < 300
    assert sum(result.accepted for result in results) == 300 - faults
    (folder,) = (tmp_path / "a.faults").iterdir()
    name, case = Case.load(folder)
    assert name == "planted"
    assert sum(case.spec["numbers"]) in range(61, 64)  # shrunk
    assert len(case.spec["numbers"]) == 2
    assert "ZeroDivisionError: too much" in (folder / "traceback.txt").read_text()
    assert f"| planted | 300 | {300 - faults} | 0 | {faults} | 1 |" in long.summary(results)


def test_the_same_seed_gives_the_same_cases_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    once = long.run([TARGET], 600, 5, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    (tmp_path / "b.jsonl").write_text("\n".join(lines[:2]) + "\n")  # stopped after the first chunk
    made = []
    original = long._in_process
    monkeypatch.setattr(long, "_in_process", lambda target, number, *more: made.append(number) or original(target, number, *more))
    again = long.run([TARGET], 600, 5, tmp_path / "b.jsonl")
    assert made == [1, 2]
    assert [(each.chunk, each.cases, each.faults) for each in again] == [(each.chunk, each.cases, each.faults) for each in once]
    assert json.loads(lines[0])["seed"] == 5
    with pytest.raises(ValueError, match="holds other cases"):
        long.run([TARGET], 600, 6, tmp_path / "b.jsonl")


def test_a_killed_process_is_a_fault_with_its_case(tmp_path):
    results = long.run([Target("killed", CASES, killed)], 100, 0, tmp_path / "a.jsonl")
    (cause,) = results[0].faults
    assert cause == "the process ended with SIGKILL"
    (folder,) = (tmp_path / "a.faults").iterdir()
    assert len(Case.load(folder)[1].spec["numbers"]) > 4


def test_a_kept_case_is_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(command.TARGETS, "planted", TARGET)
    Case({}, {"numbers": [61]}).save(tmp_path / "kept", "planted")
    assert command.main(["--replay", str(tmp_path / "kept")]) == 1
    assert "planted: fault ZeroDivisionError" in capsys.readouterr().out
    Case({}, {"numbers": [1]}).save(tmp_path / "right", "planted")
    assert command.main(["--replay", str(tmp_path / "right")]) == 0


def test_the_command_prints_a_summary(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "TARGETS", {"planted": TARGET})
    assert command.main(["--cases", "20", "--seed", "1", "--out", str(tmp_path / "a.jsonl")]) in (0, 1)
    assert "| all | 20 |" in capsys.readouterr().out
