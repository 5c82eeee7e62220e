import gzip

import pytest

from gmmrec.data.columns import ColumnNames
from gmmrec.data.formats.folder import read_folder, read_lists
from gmmrec.errors import DataError


def test_sequences_become_times(tmp_path):
    path = tmp_path / "sequences.txt.gz"
    path.write_bytes(gzip.compress(b"u1 a b a\n\nu2 c\nu3\n"))
    log = read_lists(path, ordered=True)
    assert log.to_numpy().tolist() == [["u1", "a", 0], ["u1", "b", 1], ["u1", "a", 2], ["u2", "c", 0]]


def test_train_and_test_lists_become_a_split(tmp_path):
    (tmp_path / "train.txt").write_text("0 10 11\n1 10\n")
    (tmp_path / "test.txt").write_text("0 12 \n1 \n")
    log = read_folder(tmp_path, ColumnNames()).log
    assert log[["user", "item", "split"]].to_numpy().tolist() == [["0", "10", 0], ["0", "11", 0], ["1", "10", 0], ["0", "12", 2]]


def test_lists_without_items(tmp_path):
    (tmp_path / "train.txt").write_text("0\n1\n")
    with pytest.raises(DataError, match=r"train\.txt holds users without items"):
        read_folder(tmp_path, ColumnNames())


@pytest.mark.parametrize("stem", ["interactions", "ratings", "reviews", "checkins"])
def test_usual_names_of_the_log(tmp_path, stem):
    (tmp_path / f"{stem}.tsv").write_text("user\titem\n1\t2\n")
    tables = read_folder(tmp_path, ColumnNames())
    assert tables.name == tmp_path.name
    assert tables.log.to_numpy().tolist() == [["1", "2"]]


def test_a_split_table_is_joined_by_pair(tmp_path):
    (tmp_path / "checkins.csv").write_text("user,poi\n1,2\n1,3\n1,2\n")
    (tmp_path / "split.csv").write_text("user,poi,value,split\n1,3,1,tune\n1,2,2,test\n")
    assert read_folder(tmp_path, ColumnNames()).log["split"].tolist() == [2, 1, 2]
    (tmp_path / "split.csv").write_text("user,poi,value,split\n1,2,2,test\n")
    with pytest.raises(DataError, match=r"split\.csv has no row for user '1' and item '3'"):
        read_folder(tmp_path, ColumnNames())
    (tmp_path / "split.csv").write_text("user,poi\n1,2\n")
    with pytest.raises(DataError, match=r"split\.csv has no column 'split'"):
        read_folder(tmp_path, ColumnNames())


def test_a_folder_without_interactions_is_refused_with_its_content(tmp_path):
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(DataError, match=r"holds no interactions\.csv, .* \(it holds 'readme\.md'\)"):
        read_folder(tmp_path, ColumnNames())
