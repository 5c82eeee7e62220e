"""Readers believe the manifest alone; writers touch nothing that it does not list."""

import json

import pytest

from gmmrec.errors import UsageError
from gmmrec.storage import manifest as storage
from gmmrec.storage.manifest import MANIFEST, Staging, StoredFolder, read_manifest, unchanging


def written(folder, text="one", names=("a.json", "b.txt"), own=()):
    staging = Staging(folder)
    for name in names:
        staging.path(name).write_text(f"{text} {name}")
    return staging.commit({"text": text}, own)


def stored(folder):
    return StoredFolder(folder, read_manifest(folder))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_files_take_the_place_and_the_names_of_the_old_ones(tmp_path):
    written(tmp_path, names=("a.json", "b.txt", "old.txt"))
    (tmp_path / "mine.txt").write_text("mine")
    written(tmp_path, "two")
    assert names(tmp_path) == ["a.json", "b.txt", MANIFEST, "mine.txt"]
    assert stored(tmp_path).file("b.txt").read_text() == "two b.txt"
    assert stored(tmp_path).manifest.about == {"text": "two"}
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_before_the_commit_readers_see_the_old_files(tmp_path):
    written(tmp_path)
    staging = Staging(tmp_path)
    staging.path("a.json").write_text("two")
    assert stored(tmp_path).file("a.json").read_text() == "one a.json"
    assert staging.path("a.json") == staging.path("a.json") != tmp_path / "a.json"


def test_files_of_others_are_neither_read_nor_replaced(tmp_path):
    (tmp_path / "a.json").write_text("mine")
    written(tmp_path)
    assert (tmp_path / "a.json").read_text() == "mine"
    assert stored(tmp_path).file("a.json").read_text() == "one a.json"
    written(tmp_path, "two")
    assert (tmp_path / "a.json").read_text() == "mine"
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"has no mine\.txt"):
        stored(tmp_path).file("mine.txt")


def test_further_files_of_the_writer_go_with_the_old_contents(tmp_path):
    board = tmp_path / "board"
    board.mkdir()
    (board / "events.out.tfevents.1").touch()
    (tmp_path / "state").touch()
    written(tmp_path, own=("state", "board"))
    (tmp_path / "state").write_text("changed since")
    written(tmp_path, "two", own=())
    assert names(tmp_path) == ["a.json", "b.txt", MANIFEST]


def test_a_folder_of_events_with_other_files_is_kept(tmp_path):
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "mine.txt").touch()
    written(tmp_path, own=("board",))
    written(tmp_path, "two")
    assert (tmp_path / "board" / "mine.txt").exists()


def test_every_damage_is_named(tmp_path):
    written(tmp_path)
    path = tmp_path / "b.txt"
    path.write_text("one b.tx!")
    with pytest.raises(UsageError, match=r"b\.txt is damaged: its content is not what was written; write the folder again"):
        stored(tmp_path).file("b.txt")
    path.write_text("one")
    with pytest.raises(UsageError, match=r"b\.txt is damaged: it has 3 bytes, but 9 were written"):
        stored(tmp_path).file("b.txt")
    path.unlink()
    with pytest.raises(UsageError, match=r"b\.txt is missing, although manifest\.json lists it"):
        stored(tmp_path).file("b.txt")
    path.symlink_to(tmp_path / "a.json")
    with pytest.raises(UsageError, match=r"b\.txt is missing"):
        stored(tmp_path).file("b.txt")


WRONG = (
    ("{", "is damaged"),
    ("[]", "is not a manifest of gmmrec"),
    ('{"name": "my web app"}', "is not a manifest of gmmrec"),
    ('{"manifest": 2}', "has the format 2, but this gmmrec reads 1; install a newer gmmrec"),
    ('{"manifest": 1}', "it has no list of files"),
    ('{"manifest": 1, "about": {}, "files": {"a": {}}}', "is not a path, a size and a digest"),
    ('{"manifest": 1, "about": {}, "files": {"../a": {}}}', "is no name of a file in this folder"),
    ('{"manifest": 1, "about": {}, "files": {"a": {"path": "/etc/passwd", "size": 1, "sha256": ""}}}', "is no name of a file"),
    (
        '{"manifest": 1, "about": {}, "files": {"a": {"path": "a", "size": -1, "sha256": ""}}}',
        "size or digest of 'a' is impossible",
    ),
    ('{"manifest": 1, "about": {}, "files": {"a": {"path": "a", "size": true, "sha256": "' + "0" * 64 + '"}}}', "is impossible"),
    ('{"manifest": 1, "about": {}, "files": {}, "own": ["../../home"]}', "is no name of a file in this folder"),
    ("[" * 100_000, "is damaged"),
)


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_manifests_that_cannot_be_believed_are_refused(tmp_path, text, message):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_manifest(tmp_path)


def test_a_giant_manifest_is_refused_unread(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(storage, "_LARGEST", 10)
    with pytest.raises(UsageError, match="larger than any manifest"):
        read_manifest(tmp_path)


def test_a_folder_replaced_while_it_is_read_is_read_again(tmp_path):
    written(tmp_path)
    attempts = []

    def read():
        old = stored(tmp_path)
        attempts.append(1)
        if len(attempts) == 1:
            written(tmp_path, "two", names=("a.json",))
        return old.file("b.txt" if len(attempts) == 1 else "a.json").read_text()

    assert unchanging(tmp_path, read) == "two a.json"
    with pytest.raises(UsageError, match=r"has no b\.txt"):
        unchanging(tmp_path, lambda: stored(tmp_path).file("b.txt"))


def test_links_are_replaced_by_copies_where_the_system_has_none(tmp_path, monkeypatch):
    def no_links(*paths):
        raise OSError("no links")

    written(tmp_path)
    monkeypatch.setattr(storage.os, "link", no_links)
    written(tmp_path, "two")
    assert json.loads((tmp_path / MANIFEST).read_text())["files"]["a.json"]["path"] == "a.json"
    assert stored(tmp_path).file("a.json").read_text() == "two a.json"
