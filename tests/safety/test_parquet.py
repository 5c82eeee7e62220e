"""Parquet tables whose columns take nothing in the file and much in memory."""

import contextlib

import pandas as pd
import pytest

from gmmrec.data.files import read_table
from gmmrec.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_ordinary_tables_are_read(tmp_path):
    frame = pd.DataFrame(
        {"user": ["a", "b", None], "item": [1, 2, 3], "tags": [["x", "y"], [], None], "kind": pd.Categorical(list("xyx"))}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    found = read_table(tmp_path / "a.parquet")
    assert found["item"].tolist() == [1, 2, 3]
    assert found["user"].isna().tolist() == [False, False, True]
    assert [None if tags is None else list(tags) for tags in found["tags"]] == [["x", "y"], [], None]


def test_many_equal_numbers_are_refused_by_their_count(tmp_path):
    table = pa.table({name: pa.repeat(7, 8_500_000) for name in ("user", "item", "rating", "time")})
    pq.write_table(table, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 200_000
    with pytest.raises(DataError, match=r"a\.parquet is refused .* unpacks to 259 MiB"):
        read_table(tmp_path / "a.parquet")


def test_a_long_text_that_repeats_is_refused_by_its_length(tmp_path):
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"user": text, "item": pa.repeat(1, 3_000)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    with pytest.raises(DataError, match="its text unpacks to 286 MiB"):
        read_table(tmp_path / "a.parquet")


def test_damaged_tables_are_refused(tmp_path):
    pd.DataFrame({"user": ["a", "b"], "item": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for position in range(4, len(whole), 37):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        (tmp_path / "a.parquet").write_bytes(bytes(broken))
        with contextlib.suppress(DataError):  # nothing else may be raised
            read_table(tmp_path / "a.parquet")
