"""Compressed text is read as it is, and no further than its bound."""

import gzip

import pandas as pd
import pytest

from gmmrec.data.files import read_table, read_text
from gmmrec.data.formats.news import read_vectors
from gmmrec.data.tokens import read_tokens
from gmmrec.errors import DataError
from gmmrec.safety.sizes import SETTING
from gmmrec.safety.streams import open_text
from tests.safety.bombs import gzip_bomb


def test_plain_and_compressed_text_are_read_whole(tmp_path):
    text = "".join(f"u{row},i{row % 7}\n" for row in range(50_000))
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding="utf-8") as file:
        file.write(text[:100_000])
    with (tmp_path / "a.csv.gz").open("ab") as file:  # a file of several members
        file.write(gzip.compress(text[100_000:].encode()))
    for name in ("a.csv", "a.csv.gz"):
        with open_text(tmp_path / name) as file:
            assert file.read() == text
        assert len(read_table(tmp_path / name)) == 49_999


@pytest.mark.parametrize("read", [read_table, read_text, lambda path: read_vectors(path, {"u"})], ids=["table", "text", "vectors"])
def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path, read):
    path = gzip_bomb(tmp_path / "log.csv.gz")
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"log\.csv\.gz is refused .* unpacks to more than 16 MiB from .* GMMREC_MAX_BYTES to 32M"):
        read(path)


def test_word_pieces_beside_features_are_bounded(tmp_path):
    gzip_bomb(tmp_path / "text_pieces.csv.gz", b"item,place,piece\n", b"a,0,word\n")
    with pytest.raises(DataError, match=r"text_pieces\.csv\.gz is refused"):
        read_tokens(tmp_path / "text_feat.npz", 3)


def test_the_setting_raises_the_bound(tmp_path, monkeypatch):
    path = gzip_bomb(tmp_path / "log.csv.gz", b"user,item\n", b"1,12345678\n")
    monkeypatch.setenv(SETTING, "1G")
    table = read_table(path)
    assert len(table) > 1_000_000
    assert table.iloc[-1].tolist() == ["1", "12345678"]
    assert isinstance(table, pd.DataFrame)
