import pandas as pd
import pytest

from gmmrec.data.encode.texts import Texts, join_columns
from gmmrec.errors import DataError
from tests.data.encode.tiny import HashWords


def test_empty_texts_are_missing_and_the_others_keep_their_rows():
    encoder = HashWords()
    encoded = Texts(list("abc"), ["x y", " \n", "z"], encoder).encode([2, 1, 0])
    assert encoded.rows == [2, 0]
    assert encoded.missing == {1: "no text"}
    assert encoded.values[0].tolist() == encoder.word("z").tolist()


def test_a_batch_without_texts_skips_the_encoder():
    encoder = HashWords()
    assert Texts([1], [""], encoder).encode([0]).values is None
    assert encoder.batches == []


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(DataError, match=r"no column 'tilte' \(did you mean 'title'\?\)"):
        join_columns(pd.DataFrame({"title": ["x"]}), ["tilte"])


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="there are 2 for 1 items"):
        Texts([1], ["a", "b"], HashWords())
