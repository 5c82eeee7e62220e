"""Ids that two tables have in common, and the rule by which ids that do not meet would."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmmrec.errors import literal

LOW = 0.5
"""Share of common ids below which a table is warned of."""
FEW = 0.2
"""Share of common ids below which the other ids of a table are failed matches, not nodes."""
EVIDENCE = 0.2
"""Share of the ids that do not meet which a rule must bring together."""

PROOF = 0.9
"""Share of them above which no further rule is tried."""
PLURALS = {"entity": "entities"}


@dataclass(frozen=True)
class Overlap:
    """Number of ids that a table has in common with another one.

    Attributes:
        node_type: Node type of the ids.
        table: Name of the table, such as ``items.csv``.
        other: Name of the other one, such as ``the interactions``.
        ids: Distinct ids of the table.
        other_ids: Distinct ids of the other one.
        common: Ids of both.
    """

    node_type: str
    table: str
    other: str
    ids: int
    other_ids: int
    common: int

    @classmethod
    def of(cls, node_type: str, table: str, ids: "pd.Index[Any] | NDArray[Any]", other: str, used: "pd.Index[Any]") -> "Overlap":
        """Count the distinct ids of two tables."""
        return cls(node_type, table, other, len(ids), len(used), int(used.isin(ids).sum()))

    @property
    def share(self) -> float:
        """Common ids as a share of the smaller table: 1 if one holds all ids of the other."""
        return self.common / max(1, min(self.ids, self.other_ids))


class Rule(NamedTuple):
    """Rule that rewrites ids, described as an adverbial."""

    description: str
    rewrite: Callable[[str], str]


def _removing(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: compiled.sub("", text)


_ENDING = r"\.[A-Za-z][A-Za-z0-9]{0,4}$"
_FOLDER = r"^.*[/\\#:]"
_without_path = _removing(rf"{_FOLDER}|{_ENDING}")
_without_signs = _removing(r"[\W_]+")
RULES: tuple[Rule, ...] = (
    Rule("without the ending '.0'", _removing(r"\.0+$")),
    Rule("without leading zeros", _removing(r"^0+(?=.)")),
    Rule("without file endings", _removing(_ENDING)),
    Rule("without folders and file endings", _without_path),
    Rule("regardless of letter case", str.casefold),
    Rule("in one Unicode form (NFKC)", lambda text: unicodedata.normalize("NFKC", text)),
    Rule("without spaces, quotes, hyphens and other signs", _without_signs),
    Rule("without the b'' of Python's bytes", lambda text: re.sub(r"^b(['\"])(.*)\1$", r"\2", text)),
    Rule(
        "regardless of letter case, signs, folders, endings and leading zeros",
        lambda text: re.sub(r"^0+(?=.)", "", _without_signs(_without_path(re.sub(r"\.0+$", "", text))).casefold()),
    ),
)
"""Rules from the most specific to the most general."""
_PREFIX = re.compile(r"^(\D*)0*(\d+)$")


class Match(NamedTuple):
    """Ids that a rule brings together.

    Attributes:
        rule: Description of the rule.
        left: Mask of the ids of the first table that meet one of the second by the rule ``[n]``.
        example: The first of them, and the id that it meets.
    """

    rule: str
    left: NDArray[np.bool_]
    example: tuple[str, str]


def likely_match(left: Sequence[str], right: Sequence[str]) -> Match | None:
    """Return the rule that brings most ids of two tables together, if it does so for a fifth of the shorter one.

    Args:
        left: Ids of one table that the other lacks.
        right: Ids of the other that the first lacks.

    >>> match = likely_match(["i00.jpg", "i01.jpg", "cover.png"], ["i00", "i01", "i02"])
    >>> match.rule, match.left.tolist(), match.example
    ('without file endings', [True, True, False], ('i00.jpg', 'i00'))
    >>> likely_match(["a", "b"], ["c", "d"]) is None
    True
    """
    if not len(left) or not len(right):
        return None
    best, fewer = None, min(len(left), len(right))
    for description, rewrite in RULES:
        if best is not None and int(best.left.sum()) >= PROOF * fewer:
            return best
        best = _better(best, description, left, right, [rewrite(text) for text in left], [rewrite(text) for text in right])
    numbers = [_numbers(left), _numbers(right)]
    if all(numbers):
        best = _better(best, "by number, without the letters before it", left, right, *numbers)
    return best if best is not None and int(best.left.sum()) >= EVIDENCE * fewer else None


def _better(best: Match | None, rule: str, left: Sequence[str], right: Sequence[str], a: list[str], b: list[str]) -> Match | None:
    """Return the match of rewritten ids if it brings more of them together; ids that coincide on one side do not count."""
    one, other = pd.Index(a, dtype=object), pd.Index(b, dtype=object)
    rows = np.flatnonzero(~other.duplicated(keep=False))
    positions = other[rows].get_indexer(one)
    found: NDArray[Any] = (positions >= 0) & ~one.duplicated(keep=False)
    if not found.any() or (best is not None and int(found.sum()) <= int(best.left.sum())):
        return best
    first = int(found.argmax())
    return Match(rule, found, (left[first], right[int(rows[positions[first]])]))


def _numbers(ids: Sequence[str]) -> list[str]:
    """Return the numbers in ids such as ``item_07``, if the letters before them are the same in all; else nothing."""
    found = [_PREFIX.match(text) for text in ids]
    parts = [match.groups() for match in found if match is not None]
    is_uniform = len(parts) == len(ids) and len({prefix for prefix, _ in parts}) == 1
    return [number for _, number in parts] if is_uniform else []


def refusal(overlap: Overlap, ids: Sequence[Any], lacking: Sequence[Any], match: Match | None) -> str:
    """Return the message about a table that has no id in common with another one.

    Args:
        overlap: Number of ids of both.
        ids: Ids of the table that the other one lacks.
        lacking: Ids of the other that the table lacks.
        match: Rule by which they would meet.
    """
    text = (
        f"no id of {overlap.table} (such as {literal(ids[0])}) occurs among the {overlap.other_ids:,} "
        f"{_plural(overlap.node_type)} of {overlap.other} (such as {literal(lacking[0])})"
    )
    if match is None:
        return f"{text}; use the same ids in all tables, or leave this one out"
    return f"{text}; {match.rule}, {_count(match)} would ({_example(match)}), so write the ids of both tables alike"


def warning(overlap: Overlap, ids: Sequence[Any], lacking: Sequence[Any], match: Match | None, *, num_failed: int) -> str:
    """Return the message about a table whose ids hardly occur in another one; see :func:`refusal`.

    Args:
        overlap: Number of ids of both.
        ids: Ids of the table that the other one lacks.
        lacking: Ids of the other that the table lacks.
        match: Rule by which they would meet.
        num_failed: Number of ids that are left out.
    """
    nodes = _plural(overlap.node_type)
    others = f"{overlap.other_ids:,} {nodes} of {overlap.other}"
    text = f"{overlap.table}: {overlap.common:,} of {overlap.ids:,} ids occur among the {others}"
    if match is not None:
        text += f"; {match.rule}, {_count(match)} more would ({_example(match)})"
    elif len(ids):
        text += f", but not {', '.join(literal(raw_id) for raw_id in ids[:2])}"
    if num_failed:
        text += f"; {num_failed:,} ids that do not are left out"
    return f"{text}; write the ids of both tables alike"


def _plural(node_type: str) -> str:
    return PLURALS.get(node_type, f"{node_type}s")


def _count(match: Match) -> str:
    return f"{int(match.left.sum()):,}"


def _example(match: Match) -> str:
    return f"{match.example[0]!r} is {match.example[1]!r}"
