"""One writer per folder, in this process and in others."""

import json
import os
import subprocess
import sys

import pytest

from gmmrec.errors import UsageError
from gmmrec.storage.lock import HOLDER, LOCK, holder, is_locked, locked, remove_if_empty

OTHER = """
import sys, pathlib
from gmmrec.storage.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with (
            pytest.raises(UsageError, match=rf"is being written by process {other.pid} \(since \d\d:\d\d:\d\d\); wait"),
            locked(tmp_path),
        ):
            pass
        other.kill()  # the system releases its lock
        other.wait()
        with locked(tmp_path):
            assert holder(tmp_path).startswith(f"process {os.getpid()} ")
    assert not is_locked(tmp_path)


def test_the_holder_of_another_machine_and_an_unknown_one_are_named(tmp_path):
    (tmp_path / HOLDER).write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": 0}))
    assert holder(tmp_path).startswith("process 7 on elsewhere (since ")
    for damaged in ("", "[]", '{"pid": "x", "host": 1, "since": {}}'):
        (tmp_path / HOLDER).write_text(damaged)
        assert holder(tmp_path) == "another process"


def test_a_folder_with_anything_but_a_lock_is_kept(tmp_path):
    for content in ((), ("mine.txt",)):
        folder = tmp_path / f"f{len(content)}"
        with locked(folder):
            for name in content:
                (folder / name).touch()
            remove_if_empty(folder)
        assert folder.exists() is bool(content)
    assert (tmp_path / "f1" / LOCK).exists()
