"""The judge itself: what it must call a fault."""

import logging
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import strategies as st

from gmmrec.errors import DataError
from tests.fuzz.case import Case, Odd
from tests.fuzz.targets import TARGETS
from tests.fuzz.verdict import Fault, Target, check_sentence, command, try_case


def verdict_of(call, root, *, writable=(), seconds=5.0):
    return try_case(Target("planted", st.just(Case()), call, writable=writable), Case({"data/a.csv": b"x"}), root, seconds)


def raise_(error):
    def call(case, folder):
        raise error

    return call


def test_a_result_is_accepted_and_a_sentence_is_a_refusal(tmp_path):
    assert verdict_of(lambda case, folder: None, tmp_path).kind == "accepted"
    found = verdict_of(raise_(DataError("a.csv is empty; export it again")), tmp_path)
    assert (found.kind, found.text) == ("refused", "a.csv is empty; export it again")
    assert not list(tmp_path.glob("case"))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("pandas says no"), "ValueError"),
        (KeyError("user"), "KeyError"),
        (DataError(""), "Fault: an empty refusal"),
        (DataError("x" * 5000), "Fault: an endless refusal"),
        (Fault("wrong pairs", [1]), "Fault: wrong pairs"),
    ],
)
def test_other_exceptions_and_bad_sentences_are_faults(error, cause, tmp_path):
    found = verdict_of(raise_(error), tmp_path)
    assert (found.kind, found.cause) == ("fault", cause)
    assert "Traceback" in found.text


@pytest.mark.parametrize("text", ["two\nlines", "red \x1b[31m", "a\x00b", "a\u2028b"])
def test_sentences_are_one_printable_line(text):
    with pytest.raises(Fault, match="control character"):
        check_sentence(text)


def test_the_function_in_the_sources_is_the_cause(tmp_path):
    def call(case, folder):
        from gmmrec.data.split import by_time

        by_time(None, 0.1, 0.1)

    assert verdict_of(call, tmp_path).cause == "AttributeError in data/split.py:by_time"


def test_hanging_is_a_fault(tmp_path):
    found = verdict_of(lambda case, folder: time.sleep(5), tmp_path, seconds=0.1)
    assert found.cause == "TooSlow"


def test_warnings_are_faults_and_messages_are_not(tmp_path):
    assert (
        verdict_of(lambda case, folder: warnings.warn("careless", RuntimeWarning, stacklevel=1), tmp_path).cause == "RuntimeWarning"
    )
    assert verdict_of(lambda case, folder: logging.getLogger("x").warning("careful"), tmp_path).kind == "accepted"


@pytest.mark.parametrize("name", ["../beside.txt", "data/new.txt", "../../far.txt"])
def test_files_elsewhere_are_faults(name, tmp_path):
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    found = verdict_of(lambda case, folder: Path(name).write_text("x"), root, writable=("out",))
    assert found.cause == "Outside"
    assert not list(tmp_path.rglob("*.txt"))


def test_files_of_foreign_code_beside_the_folder_are_faults(tmp_path):
    def call(case, folder):
        import subprocess

        subprocess.run(["touch", "../beside.txt"], check=True)

    found = verdict_of(call, tmp_path, writable=(".",))
    assert found.cause == "Outside"
    assert not (tmp_path / "beside.txt").exists()


def test_allowed_files_are_none(tmp_path):
    def call(case, folder):
        Path("out").mkdir()
        Path("out/new.txt").write_text(Path("data/a.csv").read_text())

    assert verdict_of(call, tmp_path, writable=("out",)).kind == "accepted"


def test_exit_codes_of_commands(tmp_path, monkeypatch):
    def refuse(case, folder):
        command(["evaluate", "nowhere"])

    def misuse(case, folder):
        command(["evaluate"])

    assert verdict_of(refuse, tmp_path).text.startswith("gmmrec evaluate: nowhere is not a finished run")
    assert verdict_of(misuse, tmp_path).kind == "refused"
    monkeypatch.setattr("gmmrec.runs.run.Run.load", lambda *arguments, **keywords: [][0])
    assert verdict_of(refuse, tmp_path).cause.startswith("Fault: exit code 1: IndexError")


def test_cases_survive_being_saved(tmp_path):
    case = Case({"data/é x.csv": b"\x00\xff"}, {"value": [float("inf"), None, Odd("set"), {"a": 10**30}], "name": "a\nb"})
    case.save(tmp_path / "kept", "read table")
    assert Case.load(tmp_path / "kept") == ("read table", case)


def test_every_layout_and_command_has_a_target():
    assert {name for name in TARGETS if name.startswith("read ")} >= {"read table", "read impressions", "read polyvore"}
    assert all(target.weight > 0 for target in TARGETS.values())
