"""Names from data: one component of a path on every system, and nothing that steers a terminal."""

import os

import pytest

from gmmrec.errors import DataError
from gmmrec.safety.names import check_name, check_no_link, visible

HOSTILE = {
    "../../evil": "holds '/'",
    "a/b": "holds '/'",
    "a\\b": r"holds '\\\\'",
    "C:evil": "holds ':'",
    "..": "begins or ends with a dot",
    ".hidden": "begins or ends with a dot",
    "name.": "begins or ends with a dot",
    " name": "begins or ends with a dot or a blank",
    "": "it is empty",
    "a\x00b": r"holds '\\x00'",
    "a\nb": r"holds '\\n'",
    "half \ud800": r"holds '\\ud800'",
    "NUL": "reserves it for a device",
    "com1.txt": "reserves it for a device",
    "ä" * 101: "more than 200 bytes",
}


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_that_could_leave_a_folder_are_refused(name):
    with pytest.raises(DataError, match=HOSTILE[name]) as caught:
        check_name(name, "modality")
    assert str(caught.value).startswith("the modality '")
    str(caught.value).encode()  # can be printed
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["image", "clip-ViT_B.32", "Bild 1", "画像", "com", "a" * 200])
def test_ordinary_names_pass(name):
    assert check_name(name, "modality") == name


def test_names_are_text():
    with pytest.raises(DataError, match="it is not text"):
        check_name(["image"], "modality")


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("x")
    os.symlink(tmp_path / "secret", tmp_path / "items.csv")
    assert check_no_link(tmp_path / "secret", "copy it") == tmp_path / "secret"
    with pytest.raises(DataError, match=r"items\.csv is a symbolic link, which is not followed in such a folder; copy it"):
        check_no_link(tmp_path / "items.csv", "copy it")


def test_characters_that_steer_a_terminal_or_reorder_text_are_shown_as_such():
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b]52;c;bHM=\x07 \x9b2J \u202eevil \r") == "\ufffd]52;c;bHM=\ufffd \ufffd2J \ufffdevil \ufffd"
    visible("half \ud800").encode()
