"""Triples and alignments from tables with any of the usual column names."""

from pathlib import Path

import pandas as pd
import pytest

from gmmrec.data.parts import TEST, TRAIN, VALID
from gmmrec.data.triple_tables import alignment_table, triple_table
from gmmrec.errors import DataError

PATH = Path("triples.csv")


def test_columns_are_found_by_their_aliases_and_parts_become_codes():
    frame = pd.DataFrame(
        {"Subject": ["a", "b", "c"], "predicate": ["r"] * 3, "object": ["b", "c", "a"], "split": ["Train", "dev", "test"]}
    )
    found = triple_table(frame, PATH)
    assert found[["head", "relation", "tail"]].to_numpy().tolist() == [["a", "r", "b"], ["b", "r", "c"], ["c", "r", "a"]]
    assert found["split"].tolist() == [TRAIN, VALID, TEST]
    assert list(triple_table(frame.drop(columns="split"), PATH)) == ["head", "relation", "tail"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"head": [], "relation": [], "tail": []}), r"triples\.csv holds no .* below its header"),
        (pd.DataFrame({"head": ["a"], "tail": ["b"]}), r"triples\.csv has no column 'relation'.*'head', 'tail'"),
        (
            pd.DataFrame({"head": ["a"], "relation": ["r"], "tail": ["b"], "split": ["later"]}),
            r"'later'.*'train', 'valid' and 'test'",
        ),
    ],
)
def test_tables_of_triples_that_cannot_be_used_are_refused(frame, message):
    with pytest.raises(DataError, match=message):
        triple_table(frame, PATH)


def test_an_item_has_one_entity():
    frame = pd.DataFrame({"asin": ["x", "y"], "entity_id": ["Q1", "Q1"]})
    assert alignment_table(frame, PATH).to_numpy().tolist() == [["x", "Q1"], ["y", "Q1"]]
    with pytest.raises(DataError, match=r"item 'x' more than once"):
        alignment_table(pd.concat([frame, frame.iloc[:1]]), PATH)
    with pytest.raises(DataError, match=r"no column 'entity'"):
        alignment_table(frame.rename(columns={"entity_id": "thing"}), PATH)


def test_an_empty_alignment_is_refused():
    with pytest.raises(DataError, match=r"^links\.csv aligns no item with an entity; add lines below its header, or remove it$"):
        alignment_table(pd.DataFrame({"item": [], "entity": []}), Path("links.csv"))
