"""Files and columns that nobody reads are listed; those that are likely to hold data are warned of."""

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.load import load_dataset
from gmmrec.data.unread import LIMIT, note_columns, note_file, watch_reading


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\na,x\n")
    return tmp_path


def test_everything_read_is_not_listed(folder, caplog):
    (folder / "items.csv.gz").write_bytes(b"")
    pd.DataFrame({"item": ["x"]}).to_csv(folder / "items.csv.gz", index=False)
    pd.DataFrame({"user": ["a"]}).to_parquet(folder / "users.parquet")
    np.savez(folder / "image_feat.npz", ids=np.array(["x"]), values=np.ones((1, 3, 2)))
    (folder / "image_feat.json").write_text("{}")
    (folder / "split.csv").write_text("user,item,split\na,x,train\n")
    for name in ("README.md", "LICENSE", "license.txt", ".hidden.csv", "convert.py", "README"):
        (folder / name).write_text("about the data")
    dataset = load_dataset(folder)
    assert (dataset.unread.files, dataset.unread.columns) == ([], {})
    assert caplog.text == ""


def test_second_tables_of_the_same_kind_and_unknown_ones(folder, caplog):
    for name in ("ratings.csv", "items.parquet.bak", "tags.tsv.gz", "sequences.txt", "x.npy"):
        (folder / name).write_text("anything")
    (folder / "pictures").mkdir()
    assert load_dataset(folder).unread.files == [
        "pictures/",
        "items.parquet.bak",
        "ratings.csv",
        "sequences.txt",
        "tags.tsv.gz",
        "x.npy",
    ]
    assert f"{folder.name}: ratings.csv, sequences.txt, tags.tsv.gz, x.npy are not read" in caplog.text


def test_a_file_that_was_only_looked_into_is_not_read(folder):
    (folder / "links.csv").write_text("movieId,imdbId\n1,2\n")
    (folder / "triples.csv").write_text("head,relation,tail\n1,r,2\n")
    (folder / "train.txt").write_text("a x\n")  # its first line decides whether the folder holds triples
    assert load_dataset(folder).unread.files == ["links.csv", "train.txt"]


def test_one_file_has_no_folder(folder):
    (folder / "other.csv").write_text("anything")
    assert load_dataset(folder / "interactions.csv").unread.files == []


def test_long_lists_are_cut(folder, caplog):
    for number in range(LIMIT + 50):
        (folder / f"{number:03d}.csv").write_text("x")
    assert len(load_dataset(folder).unread.files) == LIMIT
    assert "007.csv and 142 more are not read" in caplog.text


def test_notes_without_a_reader_do_nothing(tmp_path):
    note_file(tmp_path / "a")
    note_columns("a", ["b"])
    with watch_reading() as reading:
        note_columns("a", [])
    assert (reading.files, reading.columns) == (set(), {})
