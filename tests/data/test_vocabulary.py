import numpy as np
import pytest
import torch

from gmmrec.data.vocabulary import Vocabulary


@pytest.mark.parametrize("ids", [["b", "a", "ü"], [30, 10, 20], np.array([30, 10, 20])], ids=["strings", "integers", "array"])
def test_ids_and_rows_are_inverse(ids) -> None:
    vocabulary = Vocabulary(ids)
    assert vocabulary.rows(list(ids)).tolist() == [0, 1, 2]  # in the given order, not sorted
    assert vocabulary.ids(torch.tensor([2, 0])) == [ids[2], ids[0]]
    assert vocabulary.ids() == list(ids)
    assert len(vocabulary) == 3
    assert ids[1] in vocabulary


def test_ids_come_back_as_plain_python() -> None:
    assert [type(raw) for raw in Vocabulary(np.array([7, 8])).ids()] == [int, int]


def test_find_gives_minus_one_for_unknown_ids() -> None:
    assert Vocabulary(["a", "b"]).find(["b", "z", "a"]).tolist() == [1, -1, 0]
    assert Vocabulary([5, 6]).find([6, 9]).tolist() == [1, -1]


def test_find_of_no_ids_is_empty() -> None:
    assert Vocabulary([]).find(["a"]).tolist() == [-1]
    rows = Vocabulary(["a"]).rows([])
    assert rows.shape == (0,)
    assert rows.dtype == torch.int64


def test_unknown_ids_are_named_and_counted() -> None:
    with pytest.raises(KeyError, match=r"unknown user id 'x' and 1 more; the 2 known ids begin with 'a', 'b'"):
        Vocabulary(["a", "b"], name="user").rows(["a", "x", "y"])


def test_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="item id 'a' occurs more than once"):
        Vocabulary(["a", "b", "a"])


@pytest.mark.parametrize("ids", [["1", 1], [1.5], [None]], ids=str)
def test_ids_other_than_integers_or_strings_are_refused(ids) -> None:
    with pytest.raises(ValueError, match="must be all integers or all strings"):
        Vocabulary(ids)


def test_text_becomes_the_type_of_the_ids() -> None:
    assert Vocabulary([3, 4]).parse("4") == 4
    assert Vocabulary(["3", "4"]).parse("4") == "4"
    with pytest.raises(KeyError, match="unknown item id 'four'; the ids are integers such as 3"):
        Vocabulary([3, 4]).parse("four")


def test_equality_depends_on_the_order_of_ids() -> None:
    assert Vocabulary(["a", "b"]) == Vocabulary(["a", "b"], name="user")
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])


def test_unknown_ids_of_an_empty_vocabulary():
    with pytest.raises(KeyError, match="unknown user id 'x'; the data set has no users"):
        Vocabulary([], name="user").rows(["x"])
