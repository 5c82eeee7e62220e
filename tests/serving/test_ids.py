import numpy as np
import pandas as pd
import pytest
import torch

from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UnknownIdError, UsageError, WrongTypeError
from gmmrec.serving.ids import as_lists, as_pairs, known_row, known_rows, listed, switch, whole_number

NUMBERS, NAMES = Vocabulary([3, 1, 2], name="user"), Vocabulary(["ann", "bob", "1"], name="item")


@pytest.mark.parametrize(
    ("raw_id", "sentence"),
    [
        ("abc", "unknown user id 'abc'; user ids are whole numbers, such as 3"),
        ("1", "unknown user id '1'; user ids are whole numbers, such as 3"),
        (None, "unknown user id None; user ids are whole numbers, such as 3"),
        (float("nan"), "unknown user id nan; user ids are whole numbers, such as 3"),
        (1.5, "unknown user id 1.5; user ids are whole numbers, such as 3"),
        (1.0, "unknown user id 1.0; user ids are whole numbers, such as 3"),
        (np.float64(1.0), "unknown user id 1.0; user ids are whole numbers, such as 3"),
        (True, "unknown user id True; user ids are whole numbers, such as 3"),
        (np.True_, "unknown user id True; user ids are whole numbers, such as 3"),
        (pd.NA, "unknown user id <NA>; user ids are whole numbers, such as 3"),
        ([1], "unknown user id [1]; user ids are whole numbers, such as 3"),
        ({"a": 1}, "unknown user id {'a': 1}; user ids are whole numbers, such as 3"),
        (2**70, "unknown user id 1180591620717411303424; the 3 known ids begin with 3, 1"),
        (-(2**70), "unknown user id -1180591620717411303424; the 3 known ids begin with 3, 1"),
        (4, "unknown user id 4; the 3 known ids begin with 3, 1"),
        ("x" * 100, "unknown user id a str; user ids are whole numbers, such as 3"),
    ],
    ids=repr,
)
def test_an_id_is_known_only_in_its_own_type(raw_id, sentence):
    with pytest.raises(UnknownIdError) as caught:
        known_row(NUMBERS, raw_id)
    assert str(caught.value) == sentence
    with pytest.raises(KeyError) as caught:
        known_rows(NUMBERS, [1, raw_id])
    assert str(caught.value) == f"{sentence}; leave them out, or pass unknown='skip'"


def test_text_is_no_number():
    assert known_row(NAMES, "1") == known_row(NAMES, np.str_("1")) == 2
    with pytest.raises(KeyError, match="unknown item id 1; item ids are text, such as 'ann'"):
        known_row(NAMES, 1)
    with pytest.raises(KeyError, match=r"unknown item id 'bop' \(did you mean 'bob'\?\); the 3 known ids begin with 'ann', 'bob'"):
        known_row(NAMES, "bop")
    with pytest.raises(KeyError, match="unknown item id 'a'; the data set has no items"):
        known_row(Vocabulary([]), "a")


def test_numpy_integers_are_numbers():
    rows, positions = known_rows(NUMBERS, [np.int64(2), np.uint8(3), 1])
    assert (rows.tolist(), positions) == ([2, 0, 1], [0, 1, 2])


def test_unknown_ids_are_named_or_skipped(caplog):
    with pytest.raises(KeyError, match=r"unknown user ids 7, 'x', 8; user ids are whole .*leave them out, or pass unknown='skip'"):
        known_rows(NUMBERS, [7, 1, "x", 8, 7])
    rows, positions = known_rows(NUMBERS, [7, 1, 2**70, 8, 3], "skip")
    assert (rows.tolist(), positions) == ([1, 0], [1, 4])
    assert caplog.messages == [f"unknown user ids 7, {2**70}, 8; the 3 known ids begin with 3, 1; left out of the answer"]
    assert known_rows(NUMBERS, [7, "a"], "skip")[0].tolist() == []
    with pytest.raises(UsageError, match="unknown must be one of 'refuse', 'skip', but is 'drop'"):
        known_rows(NUMBERS, [1], "drop")
    with pytest.raises(KeyError, match=r"unknown user ids 10, 11, 12, 13, 14, 15, 16, 17 and 3 more;"):
        known_rows(NUMBERS, list(range(10, 21)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("ab", r"users must be a list of ids, but is 'ab'; write \['ab'\]"),
        (1, r"users must be a list of ids, but is 1; write \[1\]"),
        (True, r"but is True; write \[True\]"),
        (1.0, r"but is 1.0; write \[1.0\]"),
        (np.int64(4), r"but is 4; write \[4\]"),
        (b"ab", "users must be a list of ids"),
        (None, "users must be a list of ids, but is None$"),
        ({1: 2}, r"users must be a list of ids, but is \{1: 2\}$"),
        (pd.DataFrame({"user": [1]}), "users must be a list of ids, but is a table; pass one of its columns"),
        (np.zeros((2, 2)), "but is an array of 2 dimensions; take one of them"),
        (torch.tensor(3), "but is an array of 0 dimensions"),
        (object(), "users must be a list of ids, but is"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_lists_are_lists(values, sentence):
    with pytest.raises(WrongTypeError, match=sentence):
        listed("users", values)


@pytest.mark.parametrize(
    "values", [[1, 2], (1, 2), np.array([1, 2]), pd.Series([1, 2], index=[5, 9]), torch.tensor([1, 2]), range(1, 3), iter([1, 2])]
)
def test_whatever_holds_ids_is_a_list(values):
    assert listed("users", values) == [1, 2]


@pytest.mark.parametrize("value", ["5", 2.0, True, None, float("nan"), [3]])
def test_counts_are_whole_numbers(value):
    with pytest.raises(WrongTypeError, match="k must be a whole number, such as 10, but is "):
        whole_number("k", value)


def test_counts_have_limits():
    assert (whole_number("k", np.int32(4)), whole_number("k", 2**70)) == (4, 2**70)
    with pytest.raises(UsageError, match="k must be at least 1, but is 0"):
        whole_number("k", 0)
    with pytest.raises(UsageError, match="beam must be at most 9, but is 10"):
        whole_number("beam", 10, most=9)


def test_switches_are_not_guessed():
    assert switch("exclude_seen", np.False_) is False
    for value in ("no", 0, None):
        with pytest.raises(WrongTypeError, match="exclude_seen must be True or False, but is"):
            switch("exclude_seen", value)


def test_histories_are_lists_of_lists():
    assert as_lists(pd.Series([[1], np.array([2, 3]), []])) == [[1], [2, 3], []]
    with pytest.raises(WrongTypeError, match="histories must be a list of lists of item ids, but it begins with 1; write"):
        as_lists([1, 2])
    with pytest.raises(WrongTypeError, match=r"histories\[1\] must be a list of item ids, but is 'ab'"):
        as_lists([[1], "ab"])
    with pytest.raises(WrongTypeError, match="histories must be a list of lists of item ids, but is 'ab'"):
        as_lists("ab")


def test_pairs_are_a_table_or_pairs():
    expected = (["a", "b"], [1, 2])
    frame = pd.DataFrame({"item_id": [1, 2], "other": [0, 0], "user_id": ["a", "b"]})
    for pairs in (frame, [("a", 1), ["b", 2]], zip("ab", [1, 2], strict=True)):
        assert as_pairs(pairs) == expected
    assert as_pairs(np.array([[1, 2], [3, 4]])) == ([1, 3], [2, 4])
    assert as_pairs([]) == ([], [])
    with pytest.raises(WrongTypeError, match="one column 'item_id', but its columns are 'other', 'user_id'; rename them"):
        as_pairs(frame.drop(columns="item_id"))
    for pairs in (["ab"], [("a", 1, 2)], [1], "ab", ("a", 1)):
        with pytest.raises(WrongTypeError, match="pairs must be "):
            as_pairs(pairs)
