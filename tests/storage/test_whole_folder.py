"""A folder appears whole, replaces only what gmmrec wrote, and is checked before it is read."""

import errno

import pytest

from gmmrec.errors import UsageError
from gmmrec.storage.manifest import MANIFEST, read_manifest
from gmmrec.storage.whole_folder import check_complete, whole_folder


def write(folder, text="one", **settings):
    with whole_folder(folder, "data", **settings) as partial:
        assert not folder.exists() or text != "one"
        (partial / "a.csv").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_and_listed(tmp_path):
    write(tmp_path / "new" / "data")
    assert names(tmp_path / "new") == ["data"]
    assert names(tmp_path / "new" / "data") == ["a.csv", MANIFEST]
    assert read_manifest(tmp_path / "new" / "data").about == {"kind": "data"}
    check_complete(tmp_path / "new" / "data")


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "data").mkdir()
    with whole_folder(tmp_path / "data", "data") as partial:
        (partial / "a.csv").touch()
    assert names(tmp_path / "data") == ["a.csv", MANIFEST]


def test_an_interruption_leaves_the_old_folder(tmp_path):
    write(tmp_path / "data")

    def fail():
        with whole_folder(tmp_path / "data", "data", overwrite=True) as partial:
            (partial / "a.csv").write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert names(tmp_path) == ["data"]
    assert (tmp_path / "data" / "a.csv").read_text() == "one"


def test_only_what_gmmrec_wrote_is_replaced(tmp_path):
    write(tmp_path / "data")
    with pytest.raises(UsageError, match="is not empty; give a new one, or replace it with --overwrite"):
        write(tmp_path / "data", "two")
    write(tmp_path / "data", "two", overwrite=True)
    assert (tmp_path / "data" / "a.csv").read_text() == "two"
    (tmp_path / "data" / "mine.csv").touch()
    with pytest.raises(UsageError, match=r"cannot be replaced: mine\.csv is not of gmmrec"):
        write(tmp_path / "data", "three", overwrite=True)
    (tmp_path / "data" / "mine.csv").unlink()
    (tmp_path / "data" / "a.csv").write_text("changed by hand")
    with pytest.raises(UsageError, match=r"cannot be replaced: a\.csv was changed since"):
        write(tmp_path / "data", "three", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.csv").touch()
    with pytest.raises(UsageError, match="is not empty; give a new one, so that nothing is overwritten"):
        write(tmp_path / "mine", "three", overwrite=True)
    with pytest.raises(UsageError, match="is a file; give a new folder"):
        write(tmp_path / "mine" / "a.csv", "three")


def test_missing_and_shortened_files_are_named(tmp_path):
    write(tmp_path / "data")
    (tmp_path / "data" / "a.csv").write_text("longer than before")  # people may edit their data
    check_complete(tmp_path / "data")
    (tmp_path / "data" / "a.csv").write_text("o")
    with pytest.raises(UsageError, match=r"a\.csv is damaged: it has 1 bytes, but 3 were written"):
        check_complete(tmp_path / "data")
    (tmp_path / "data" / "a.csv").unlink()
    with pytest.raises(UsageError, match=r"a\.csv is missing, although manifest\.json lists it"):
        check_complete(tmp_path / "data")
    check_complete(tmp_path)  # no manifest, nothing to check
