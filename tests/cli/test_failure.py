"""Every exception of a command ends in one line: a sentence and code 2, or the place of a log and code 1."""

import errno

import pytest

import gmmrec.models
from gmmrec.cli import failure
from gmmrec.cli.main import main
from gmmrec.errors import UnknownIdError, UsageError


@pytest.fixture
def fail(monkeypatch):
    """Return a function that makes ``gmmrec models`` raise an exception."""

    def prepare(error):
        def broken(*arguments, **settings):
            raise error

        monkeypatch.setattr(gmmrec.models, "describe_models", broken)

    return prepare


EXPECTED = (
    (UsageError("k must be at least 1, but is 0"), "k must be at least 1, but is 0"),
    (UnknownIdError("unknown user id 'x'"), "unknown user id 'x'"),
    (OSError(errno.ENOSPC, "", "/full/run"), "/full/run: No space left on device; free some space, or write to another disk"),
    (OSError(errno.EROFS, "", "/fixed"), "/fixed: Read-only file system; write to another folder"),
    (MemoryError(), "there is not enough memory; use smaller batches"),
)


@pytest.mark.parametrize(("error", "sentence"), EXPECTED)
def test_errors_of_input_system_and_memory_are_one_sentence(capsys, fail, error, sentence):
    fail(error)
    assert main(["models"]) == failure.USAGE
    assert capsys.readouterr().err.startswith(f"gmmrec models: {sentence}")


@pytest.mark.parametrize("error", [ValueError("pandas is unhappy"), KeyError("column"), ZeroDivisionError("by zero"), OSError("?")])
def test_any_other_exception_names_the_log_with_its_traceback(capsys, fail, monkeypatch, tmp_path, error):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fail(error)
    assert main(["models"]) == failure.FAULT
    line = capsys.readouterr().err
    (log,) = (tmp_path / "gmmrec").glob("error-*.log")
    assert line.count("\n") == 1
    assert type(error).__name__ in line
    assert str(log) in line
    assert "in broken\n" in log.read_text()


def test_debug_shows_the_traceback(capsys, fail):
    for error, code in ((ValueError("no sentence"), failure.FAULT), (UsageError("a sentence"), failure.USAGE)):
        fail(error)
        assert main(["models", "--debug"]) == code
        assert "in broken\n" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_said(capsys, fail, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(failure.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    fail(ValueError("no sentence"))
    assert main(["models"]) == failure.FAULT
    assert "repeat the command with --debug" in capsys.readouterr().err
