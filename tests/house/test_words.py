"""Old words are found as whole words, in names and prose, except in files that must contain them."""

import pytest

from tests.house import words
from tests.house.source import Source
from tests.house.test_rules import KNOWN


def found(text: str, path: str = "gmmrec/module.py", *, refused: bool = True) -> list[tuple[int, str]]:
    return list(words.no_old_words(Source(path, text), KNOWN, refused=refused))


@pytest.mark.parametrize(
    "text",
    [
        "exam = 1",
        "the_exams(x)",
        "short_ones_together(x)",
        '"""A row a node."""',
        "# one vector an item",
        "squared_length = x",
        "torch.judge(x)",
        "run.apart(generator)",
        "# the longest gradient",
        "# the right items",
        "wanted = x",
        "is_wanted(x)",
        "costs(history)",
        "# fills all blanks",
        "# seven facts",
    ],
)
def test_old_words_are_found(text):
    assert [line for line, _ in found(f"\n{text}")] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "example = 1",
        "sampled = 2",
        "# one row per node",
        "replaces(x)",
        "# a row and a node",
        "# at the right",
        "# if a user wanted one",
        "run_costs(history)",
        "# four decimal places",
    ],
)
def test_other_words_pass(text):
    assert found(text) == []


def test_messages_give_the_new_word_and_records_are_exempt():
    assert found("exam = 1") == [(1, "'exam'; say 'evaluation task'")]
    assert found("exam = 1", "gmmrec/renamed.py") == []


def test_pending_words_are_counted_separately(monkeypatch):
    monkeypatch.setattr(words, "NOT_YET", frozenset({"heard"}))
    assert [line for line, _ in found("exam\nheard")] == [1]
    assert [line for line, _ in found("exam\nheard", refused=False)] == [2]


def test_every_word_is_enforced():
    assert not words.NOT_YET
