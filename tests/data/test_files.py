import gzip
import importlib.util

import pandas as pd
import pytest

from gmmrec.data.files import line_of, read_table, read_text
from gmmrec.errors import DataError

TEXT = "user,item\n1,2\n3,4\n"


def refused(path, read=read_table):
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv", ";"), ("a.tsv", ",")])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_text_tables(tmp_path, name, separator, bom):
    text = bom + TEXT.replace(",", separator)
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        frame = read_table(path)
        assert list(frame) == ["user", "item"]
        assert frame["item"].tolist() == ["2", "4"]


def test_parquet_keeps_types(tmp_path):
    pd.DataFrame({"user": [1], "item": ["7"]}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").iloc[0].tolist() == [1, "7"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'gmmrec[parquet]'" in refused(tmp_path / "a.parquet")


def test_broken_parquet(tmp_path):
    (tmp_path / "a.parquet").write_text(TEXT)
    assert "not a readable Parquet file" in refused(tmp_path / "a.parquet")


def test_truncated_gzip(tmp_path):
    text = "user,item\n" + "".join(f"{i * 7919 % 10007},{i}\n" for i in range(5000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode())[:5000])
    assert "is truncated" in refused(tmp_path / "a.csv.gz")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode())[:5000])
    assert "is truncated" in refused(tmp_path / "a.txt.gz", read_text)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv.gz", TEXT.encode(), "named .gz but is not gzip data; rename it to a.csv"),
        ("a.csv", gzip.compress(TEXT.encode(), mtime=0), "is gzip data; rename it to a.csv.gz"),
        ("a.csv", b"<!DOCTYPE html><html></html>", "holds an HTML page"),
        ("a.csv.gz", b"  <HTML><body>404</body>", "holds an HTML page"),
        ("a.csv", "user,item\nJörg,1\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"user,item\n1,2\n1,2,3\n", "line 3 has 3 fields, but the header has 2"),
        ("a.csv", b"user,item\n1,2,5\n1,2,3\n", "more fields than its header"),
        ("a.csv", b'user,item\n1,"2\n', "is not a table"),
    ],
)
def test_files_that_contradict_their_name_are_refused(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    assert complaint in refused(tmp_path / name)


def test_an_empty_text_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(" \n")
    assert "is empty" in refused(tmp_path / "a.txt", read_text)


def test_lines_are_counted_through_quotes_and_blank_lines(tmp_path):
    (tmp_path / "a.csv").write_text('user,item\n1,"x\ny\nz"\n\n2,b\n3,c\n')
    assert [line_of(tmp_path / "a.csv", row) for row in range(3)] == [2, 6, 7]
