import pandas as pd
import pytest

from gmmrec.data.overlap import Overlap, likely_match


@pytest.mark.parametrize(
    ("left", "right", "rule"),
    [
        (["0.0", "7.0", "12.0"], ["0", "7", "12"], "without the ending '.0'"),
        (["007", "012"], ["7", "12"], "without leading zeros"),
        (["i00.jpg", "i01.PNG"], ["i00", "i01"], "without file endings"),
        (["img/i00.jpg", "img/i01.jpg"], ["i00", "i01"], "without folders and file endings"),
        (["http://example.org/entity/Q1", "wd:Q2"], ["Q1", "Q2"], "without folders and file endings"),
        (["B00a", "b00B"], ["b00A", "B00b"], "regardless of letter case"),
        (["caf\u00e9"], ["cafe\u0301"], "in one Unicode form (NFKC)"),
        (["B-001", "'B002'"], ["B001", "B002"], "without spaces, quotes, hyphens and other signs"),
        (["b'x'", "b'y'"], ["x", "y"], "without the b'' of Python's bytes"),
        (["item_7", "item_12"], ["7", "12"], "by number, without the letters before it"),
        (["i07", "i12"], ["product7", "product12"], "by number, without the letters before it"),
        (["A/0X-7.jpg"], ["x7"], "regardless of letter case, signs, folders, endings and leading zeros"),
    ],
)
def test_rules(left, right, rule):
    for one, other in ((left, right), (right, left)):
        match = likely_match(one, other)
        assert match.rule == rule
        assert match.left.all()
        assert match.example == (one[0], other[0])


def test_ids_that_coincide_by_the_rule_prove_nothing():
    assert likely_match(["ab", "AB"], ["Ab"]) is None
    assert likely_match(["A1"], ["a1", "a-1"]).rule == "regardless of letter case"


def test_a_rule_needs_a_fifth_of_the_ids():
    right = [f"log{number}" for number in range(11)]
    left = [f"catalogue {number}" for number in range(11)]
    assert likely_match(["LOG0", *left], right) is None
    assert likely_match(["LOG0", "LOG1", "LOG2", *left], right).left.sum() == 3


def test_numbers_after_different_letters_are_different():
    assert likely_match(["movie1", "book2"], ["film1", "film2"]) is None


def test_share_is_of_the_smaller_table():
    used = pd.Index(["a", "b", "c"], dtype=object)
    assert Overlap.of("item", "items.csv", pd.Index(list("abcdef"), dtype=object), "the interactions", used).share == 1
    assert Overlap.of("item", "items.csv", pd.Index(["a", "z"], dtype=object), "the interactions", used).share == 0.5
