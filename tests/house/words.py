"""Words of the glossary, and the old words that they replace."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.house.source import Source
from tests.house.vocabulary import Vocabulary

THING = "node|user|item|model|edge|epoch|modality|interaction|step|token|dimension|question|query|relation|layer|outfit|kind|run"


class Word(NamedTuple):
    pattern: str
    say: str


WORDS = (
    Word(r"exams?", "evaluation task"),
    Word(r"told_apart", "distinguished"),
    Word(r"CollaborativeConfig", "TaskInputs"),
    Word(r"heard", "messages"),
    Word(r"sought", "relevant"),
    Word(r"equal_shares", "uniform_weights"),
    Word(r"in_front", "left_pad"),
    Word(r"short_ones_together", "encode_by_length"),
    Word(r"longest.gradient", "maximum gradient norm"),
    Word(rf"(?:row|vector|number|line|token|file|weight|value|result|score|list) an? (?:{THING})", "one row per node, and so on"),
    Word(r"squared.length", "squared L2 norm"),
    Word(r"nobody speaks", "no view provides user vectors"),
    Word(r"judged?\(", "evaluate_run"),
    Word(r"watch\(", "monitored_value"),
    Word(r"apart\(", "fork_generator"),
    Word(r"(?<!run_)costs\(", "run_costs"),
    Word(r"asks? (?:a )?finished runs? again", "re-evaluate a finished run"),
    Word(r"wanted(?=_| = |[.\[(]\w)|(?<=_)wanted", "query vectors; or expected, in tests"),
    Word(r"right (?:ones?|items?|candidates?|answers?)", "relevant candidates"),
    Word(r"(?<!decimal )places", "positions or rows"),
    Word(r"blanks(?!/)", "fill in the blank"),
    Word(r"real sets", "compatibility"),
    Word(r"facts", "triples"),
    Word(r"questions", "queries, or the task that holds them"),
)
NOT_YET: frozenset[str] = frozenset()
"""Patterns that are counted, but not enforced yet."""
EXEMPT = ("tests/house/", "gmmrec/renamed.py", "tests/test_renamed.py")
"""Files that must contain old words: this table and the table of renamed names."""


def no_old_words(source: Source, known: Vocabulary, *, refused: bool = True) -> Iterator[tuple[int, str]]:
    """Refuse old words, in names and prose; yield those of NOT_YET if ``refused`` is false."""
    if source.path.startswith(EXEMPT):
        return
    for word in WORDS:
        if (word.pattern in NOT_YET) is refused:
            continue
        pattern = rf"(?<![A-Za-z0-9])(?:{word.pattern})(?:(?<=\()|(?![A-Za-z0-9]))"
        for number, line in enumerate(source.text.splitlines(), 1):
            for found in re.finditer(pattern, line):
                yield number, f"{found[0]!r}; say {word.say!r}"
