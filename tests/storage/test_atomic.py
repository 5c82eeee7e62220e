"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import hashlib
import os
import stat

import pytest
import torch
from safetensors import SafetensorError

from gmmrec.storage import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.json"
    with atomic.whole_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "half"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), ValueError("no")])
def test_an_interruption_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic.whole_file(path) as partial:
            partial.write_text("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_errors_of_the_system_name_the_file(tmp_path):
    path = tmp_path / "no folder" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        atomic.write_text(path, "x")
    assert caught.value.filename == str(path)
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(OSError, match="No space left on device") as caught, atomic.whole_file(tmp_path / "b"):
        raise SafetensorError(text)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "b"))
    with pytest.raises(SafetensorError, match="header"), atomic.whole_file(tmp_path / "b"):
        raise SafetensorError("header too large")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        atomic.write_json(tmp_path / "a.json", [1])
        atomic.write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_the_digest_is_that_of_the_whole_content(tmp_path):
    data = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "a").write_bytes(data)
    assert atomic.digest_of_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
