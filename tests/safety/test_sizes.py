"""Bounds on what files may take: the ratio, the least amounts, the memory, and the setting that replaces them."""

import os

import pytest

from gmmrec.errors import DataError, UsageError
from gmmrec.safety import sizes
from gmmrec.safety.sizes import GIB, MIB, NUMBERS, SETTING, TEXT, bound, check_file, check_shape, check_unpacked, total_memory


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(sizes, "total_memory", lambda: 8 * GIB)


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [
        (61_000, TEXT, 16 * MIB),  # took 2 GB
        (MIB, TEXT, 100 * MIB),
        (50 * MIB, TEXT, 5000 * MIB),  # a data set of several GB
        (GIB, TEXT, 8 * GIB),  # never more than the memory
        (2 * MIB, NUMBERS, 256 * MIB),
    ],
)
def test_a_file_may_unpack_to_a_multiple_of_its_size(size, least, expected):
    assert bound(size, least) == expected


SETTINGS = {"1000": 1000, "2K": 2048, "64G": 64 * GIB, "3 MiB": 3 * MIB, "1tb": 1024 * GIB}


@pytest.mark.parametrize(("text", "expected"), SETTINGS.items())
def test_the_setting_replaces_the_bound(monkeypatch, text, expected):
    monkeypatch.setenv(SETTING, text)
    assert bound(1, TEXT) == expected


@pytest.mark.parametrize("text", ["much", "-1", "1.5G", "1e9", "9" * 30])
def test_a_setting_that_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv(SETTING, text)
    with pytest.raises(UsageError, match=f"{SETTING} must be a number of bytes such as 64G, but is"):
        bound(1, TEXT)


def test_the_message_names_a_setting_that_is_enough(monkeypatch, tmp_path):
    path = tmp_path / "bomb.npz"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"bomb\.npz is refused .*unpacks to 3 GiB from 2 B; .*GMMREC_MAX_BYTES to 4G") as caught:
        check_unpacked(3 * GIB, path, NUMBERS)
    monkeypatch.setenv(SETTING, str(caught.value).rpartition(" ")[2])
    check_unpacked(3 * GIB, path, NUMBERS)


def test_a_sparse_file_larger_than_the_memory_is_refused_unread(tmp_path):
    path = tmp_path / "vocabularies.json"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 9 * GIB)
    with pytest.raises(DataError, match="it has 9 GiB, but 8 GiB at most are read"):
        check_file(path)
    with pytest.raises(DataError, match="but 1 MiB at most are read"):
        check_file(path, MIB)


def test_arrays_of_declared_sizes_are_refused_before_they_are_made():
    check_shape((1_000, 1_000), 4, "a table")
    with pytest.raises(DataError, match=r"a table would take 37\.3 GiB \(10,000,000 x 1,000\), but 8 GiB at most"):
        check_shape((10_000_000, 1_000), 4, "a table")


def test_the_memory_of_this_machine_is_known():
    memory = total_memory()
    assert memory is None or memory > 100 * MIB
