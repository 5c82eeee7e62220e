"""Vectors of words and entities, and entity labels, line by line; articles as a whole are covered by ``test_impressions.py``."""

import gzip

import numpy as np
import pandas as pd
import pytest

from gmmrec.data.formats.news import read_entity_labels, read_vectors
from gmmrec.errors import DataError


@pytest.mark.parametrize("compressed", [False, True])
def test_vectors_of_chosen_names_are_read(tmp_path, compressed):
    text = "3 2\nQ1\t0.5\t1\nQ2\t2\t3\nQ3\tno\tnumber\n"  # a count of lines and columns comes first; Q3 is not asked for
    path = tmp_path / ("words.vec.gz" if compressed else "words.vec")
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    found = read_vectors(path, {"Q1", "Q2", "Q9"})
    assert {name: vector.tolist() for name, vector in found.items()} == {"Q1": [0.5, 1.0], "Q2": [2.0, 3.0]}
    assert found["Q1"].dtype == np.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [("a 1 2\nb 1\n", r"words\.vec line 2 has 1 numbers"), ("a 1 x\n", r"words\.vec line 1 holds something that is not a number")],
)
def test_a_broken_line_is_named(tmp_path, text, message):
    path = tmp_path / "words.vec"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_vectors(path, {"a", "b"})


def test_labels_become_columns_and_news_without_any_are_missing(tmp_path):
    pd.DataFrame({"news": ["n1", "n1", "n3"], "entity": ["Bach", "Graz", "Bach"]}).to_csv(tmp_path / "news_entity.csv", index=False)
    (table,) = read_entity_labels([tmp_path], pd.Series(["n1", "n2", "n3"]))
    assert table.values.tolist() == [[1, 1], [0, 0], [1, 0]]  # the most frequent label first
    assert table.mask.tolist() == [True, False, True]
    assert read_entity_labels([tmp_path / "nowhere"], pd.Series(["n1"])) == []


def test_labels_of_other_news_are_refused_with_the_rule(tmp_path, caplog):
    (tmp_path / "news_entity.csv").write_text("news,entity\nN1,Bach\nN2,Graz\n")
    with pytest.raises(DataError, match=r"no id of news_entity\.csv \(such as 'N1'\).*'N1' is 'n1'"):
        read_entity_labels([tmp_path], pd.Series(["n1", "n2", "n3"]))
    (tmp_path / "news_entity.csv").write_text("news,entity\n n1 ,Bach\nN2,Graz\nN3,Graz\n")
    (table,) = read_entity_labels([tmp_path], pd.Series(["n1", "n2", "n3"]))
    assert table.mask.tolist() == [True, False, False]
    assert (
        "news_entity.csv: 1 of 3 ids occur among the 3 items of the folder; regardless of letter case, 2 more would" in caplog.text
    )
