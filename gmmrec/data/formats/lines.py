"""Reader of ``train.txt``, ``test.txt`` and optionally ``valid.txt``, whose lines have one of four forms.

A line holds a user and items (``lists``), or one interaction: user, item and optionally rating and time (``ratings``), or a triple:
head, relation and tail (``triples``, read by :mod:`gmmrec.data.formats.knowledge`), or the cells of a table with a header
(``table``). All lines decide together; what fits two forms equally well is refused, and what fits one much better is read with a
warning. The setting ``format`` decides in any case.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from gmmrec.data.columns import ALIASES, ColumnNames, interaction_log, normalize_column_name
from gmmrec.data.files import TABLE_SUFFIXES, find_file, read_table, read_text
from gmmrec.data.parts import GIVEN_PARTS, SplitPart
from gmmrec.data.text_form import SPACES, detect_separator, read_as
from gmmrec.errors import DataError

logger = logging.getLogger(__name__)

LineForm: TypeAlias = Literal["lists", "ratings", "triples", "table"]

STEMS = {part: (part.value, "dev") if part is SplitPart.VALID else (part.value,) for part in GIVEN_PARTS}
"""File names of every part, without extensions."""
LINE_SUFFIXES = (".txt", ".txt.gz", ".tsv", ".tsv.gz")
NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
RANGES = (1e8, 4_102_444_800), (1e11, 4_102_444_800e3)
"""Ranges of Unix times, in seconds and in milliseconds; the first begins in 1973."""
MOST_RATINGS, HIGHEST_RATING = 25, 10
"""Bounds of the number of distinct ratings, and of their size."""
MAJORITY = 0.5
"""Minimum share of the lines that have the same number of fields, for the others to be defects rather than lists."""
FLAGS = {
    "ratings": "'ratings' (user, item and rating)",
    "triples": "'knowledge' (head, relation and tail)",
    "lists": "'lists' (a user and items)",
}
"""Values of the setting ``format`` by form."""


def part_files(folder: Path, suffixes: Sequence[str] = LINE_SUFFIXES) -> dict[SplitPart, Path]:
    """Return the files of the parts that a folder has, by part; empty without a training part."""
    files = {part: path for part, stems in STEMS.items() if (path := find_file(folder, stems, suffixes)) is not None}
    return files if SplitPart.TRAIN in files else {}


def table_parts(folder: Path) -> dict[SplitPart, Path]:
    """Return the files of the parts that are tables by name, such as ``train.csv``."""
    return part_files(folder, tuple(suffix for suffix in TABLE_SUFFIXES if suffix not in LINE_SUFFIXES))


def read_parts(paths: Mapping[SplitPart, Path], columns: ColumnNames, form: LineForm) -> pd.DataFrame:
    """Read interactions in one form, with their parts.

    Args:
        paths: Files by part.
        columns: Named columns; ``columns.form`` is the form of the text.
        form: ``lists``, ``ratings`` or ``table``.

    Raises:
        DataError: A line is malformed.
    """
    lines = [_Lines.read(path) for path in paths.values()] if form == "ratings" else []
    if form == "table" or any(part.has_names() for part in lines):
        with read_as(columns.form):
            logs = [interaction_log(read_table(path), columns, path) for path in paths.values()]
    elif form == "ratings":
        logs = _ratings(lines, columns)
    else:
        logs = [read_lists(path, ordered=False) for path in paths.values()]
    shared = set.intersection(*(set(log) for log in logs))
    for path, log in zip(paths.values(), logs, strict=True):
        if extra := sorted(str(name) for name in set(log) - shared - {"split"}):
            raise DataError(f"{path.name} has a {extra[0]} column, which other parts lack; give all parts the same columns")
    parts = [log.assign(split=np.int8(part.code)) for part, log in zip(paths, logs, strict=True)]
    whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return whole


def read_lists(path: Path, *, ordered: bool) -> pd.DataFrame:
    """Read interactions from lines ``user item item …``; if ordered, the position in the line becomes the order.

    Raises:
        DataError: No line holds an item.
    """
    text = read_text(path)
    lines = pd.Series(text.splitlines())
    words = lines.str.count(r"\S+")
    counts = words[words > 0].to_numpy()
    tokens = np.array(text.split(), dtype=object)
    starts = np.cumsum(counts) - counts
    is_item = np.ones(len(tokens), dtype=bool)
    is_item[starts] = False
    lengths = counts - 1
    if not is_item.any():
        raise DataError(f"{path.name} holds users without items; write a user id and item ids, separated by spaces, in every line")
    log: pd.DataFrame = pd.DataFrame({"user": np.repeat(tokens[starts], lengths), "item": tokens[is_item]})
    if ordered:
        log["order"] = np.arange(len(log)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return log


def form_of(paths: Sequence[Path]) -> LineForm:
    """Return the form of the lines of some files, of which the first is the training part.

    Raises:
        DataError: The lines fit more than one form, or a few lines differ from all others.
    """
    parts = [_Lines.read(path) for path in paths]
    if parts[0].has_names():
        return "table"
    counts = np.concatenate([part.counts for part in parts])
    repeats = any(part.user().duplicated().any() for part in parts)
    if len(set(counts.tolist())) > 1:
        _check_ragged(parts, counts, repeats=repeats)
        return "lists"
    width = int(counts[0])
    if width == 2:
        return "lists" if parts[0].separator in (SPACES, "\t") else "ratings"
    if width in (3, 4):
        cells = pd.concat([part.cells() for part in parts], ignore_index=True)
        form, is_certain = (_form_of_four if width == 4 else _form_of_three)(cells, repeats)
        if form is not None:
            if not is_certain:
                _warn(form, paths[0], width)
            return form
    elif not repeats:
        return "lists"
    possible = FLAGS if width == 3 else {form: flag for form, flag in FLAGS.items() if form != "triples"}
    raise DataError(
        f"{paths[0].name} has {width} columns in every line, and fits more than one form; "
        f"set format to {' or '.join(possible.values())}, or header to 'none' and name columns by number"
    )


def check_sequences(path: Path) -> None:
    """Refuse a file of sequences whose lines are interactions with a time.

    Raises:
        DataError: Every line looks like user, item, rating and time, or like user, item and time.
    """
    lines = _Lines.read(path)
    widths = set(lines.counts.tolist())
    if widths in ({3}, {4}) and _is_time(lines.cells().iloc[:, -1]) and not _is_time(lines.cells().iloc[:, 1]):
        raise DataError(
            f"{path.name} should hold a user and items in every line, but every line ends with a time; rename it to train.txt, "
            "or give its path and set header to 'none'; format='lists' reads it as it is"
        )


@dataclass(frozen=True)
class _Lines:
    """Lines of one file that are not blank, and the number of fields of each."""

    path: Path
    lines: "pd.Series[str]"
    numbers: "np.ndarray[Any, np.dtype[np.int64]]"
    separator: str
    counts: "np.ndarray[Any, np.dtype[np.int64]]"

    @classmethod
    def read(cls, path: Path) -> "_Lines":
        raw = pd.Series(re.split(r"\r\n|\n|\r", read_text(path))).str.strip(" ")
        is_blank = (raw.str.strip() == "").to_numpy()
        lines, numbers = raw[~is_blank].reset_index(drop=True), np.flatnonzero(~is_blank) + 1
        words = lines.str.count(r"\S+").to_numpy()
        separator = SPACES
        if lines.str.contains("\t").any():
            separator = "\t"
        elif (words == 1).all():
            separator = detect_separator(lines.head(20).tolist(), SPACES)
        counts = words if separator == SPACES else lines.str.count(re.escape(separator)).to_numpy() + 1
        if separator == "\t" and (counts == 2).all() and (words > 2).any():  # user, tab, items separated by spaces
            separator, counts = SPACES, words
        is_total = len(lines) > 1 and counts[0] == 1 and lines[0] == str(len(lines) - 1)  # OpenKE's number of triples
        start = int(is_total)
        return cls(path, lines.iloc[start:].reset_index(drop=True), numbers[start:], separator, counts[start:])

    def has_names(self) -> bool:
        """Return whether the first line names a column of users and one of items."""
        names = {normalize_column_name(name) for name in self._split(self.lines.iloc[0])}
        return bool(names & set(ALIASES["user"]) and names & set(ALIASES["item"]))

    def user(self) -> "pd.Series[str]":
        pattern = r"^\s*(\S+)" if self.separator == SPACES else f"^(.*?)(?:{re.escape(self.separator)}|$)"
        return self.lines.str.extract(pattern, expand=False)

    def cells(self) -> pd.DataFrame:
        """Return the fields of lines that have all the same number."""
        table: pd.DataFrame = pd.DataFrame([self._split(line) for line in self.lines]).astype("str")
        stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
        return stripped

    def _split(self, line: str) -> list[str]:
        return line.split() if self.separator == SPACES else line.split(self.separator)


def _check_ragged(parts: Sequence[_Lines], counts: "np.ndarray[Any, np.dtype[np.int64]]", *, repeats: bool) -> None:
    """Refuse lines of different lengths that are no lists, because most of them are triples or ratings."""
    width = max((3, 4), key=lambda width: int((counts == width).sum()))
    if (counts == width).mean() < MAJORITY or not (repeats or parts[0].separator == "\t"):
        return
    odd = next(part for part in parts if (part.counts != width).any())
    row = int((odd.counts != width).argmax())
    line = odd.lines[row].strip()[:60]
    if width == 3 and parts[0].separator == "\t":
        expected = "head, relation and tail, separated by tabs, or user, item and rating,"
    else:
        expected = f"{width} fields like most lines"
    raise DataError(
        f"{odd.path.name} line {odd.numbers[row]} must hold {expected} but is {line!r}; fix it, or set format to 'lists' "
        "if every line holds a user and items"
    )


def _form_of_four(cells: pd.DataFrame, repeats: bool) -> tuple[LineForm | None, bool]:
    """Return the form of lines of four fields and whether it is certain."""
    if not _is_time(cells[1]) and any(_is_time(cells[a]) and _is_rating(cells[b]) for a, b in ((3, 2), (2, 3))):
        return "ratings", True
    return (None, False) if repeats else ("lists", True)


def _form_of_three(cells: pd.DataFrame, repeats: bool) -> tuple[LineForm | None, bool]:
    """Return the form of lines of three fields and whether it is certain."""
    first, second, third = (set(cells[column]) for column in range(3))
    if cells.apply(lambda column: column.str.contains(r"\s").any()).any():
        return "triples", True
    if _is_time(cells[2]) and not _is_time(cells[1]):
        return "ratings", True
    if _is_rating(cells[2]):
        return ("ratings", False) if repeats and len(second) > len(third) else (None, False)
    are_numbers = _are_numbers(cells[2])
    if not repeats and are_numbers and _are_numbers(cells[1]):
        return ("lists", bool(second & third)) if 3 * len(second) >= len(third) else (None, False)
    if not are_numbers:
        is_relation = second.isdisjoint(first | third)
        if is_relation and first & third:
            return "triples", True
        if is_relation and repeats and 2 * len(second) <= len(cells):
            return "triples", False
        return ("lists", True) if not repeats and second & third and not first & third else (None, False)
    is_graph = 2 * len(first & third) >= min(len(first), len(third)) and 2 * len(second) < len(first | third)
    return ("triples", False) if repeats and is_graph else (None, False)


def _ratings(parts: Sequence[_Lines], columns: ColumnNames) -> list[pd.DataFrame]:
    """Read interactions from lines of user, item and optionally rating and time, in this order or with the time before."""
    names = columns
    if columns.form.header != "none":
        width = int(np.bincount(np.concatenate([part.counts for part in parts])).argmax())
        for part in parts:
            if (part.counts != width).any() or width not in (2, 3, 4):
                row = int((part.counts != width).argmax())
                raise DataError(
                    f"{part.path.name} line {part.numbers[row]} must hold user, item and optionally rating and time like the other "
                    f"lines, but is {part.lines[row][:60]!r}; fix it"
                )
        cells = pd.concat([part.cells() for part in parts], ignore_index=True)
        is_timed = width == 4 or (width == 3 and _is_time(cells[2]))
        usual = 3 if width == 4 else None
        time = next((column for column in (3, 2) if column < width and is_timed and _is_time(cells[column])), usual)
        weight = next((column for column in range(2, width) if column != time), None)
        found = {"user": 0, "item": 1, "weight": weight, "time": time}
        by_number = {role: "none" if column is None else str(column + 1) for role, column in found.items()}
        given = {role: value for role in found if (value := getattr(columns, role)) is not None}
        names = ColumnNames(**(by_number | given), split="none", review="none")
    form = replace(columns.form, header="none", quoted=False, separator=columns.form.separator or parts[0].separator)
    with read_as(form):
        return [interaction_log(read_table(part.path), names, part.path) for part in parts]


def _are_numbers(column: "pd.Series[str]") -> bool:
    return bool(column.str.fullmatch(NUMBER).all())


def _is_rating(column: "pd.Series[str]") -> bool:
    """Return whether all values are small numbers, few of them distinct or some with decimals."""
    if not _are_numbers(column):
        return False
    distinct = pd.Series(column.unique()).astype(float)
    is_few = len(distinct) <= MOST_RATINGS or bool((distinct % 1 != 0).any())
    return bool((distinct.abs() <= HIGHEST_RATING).all()) and is_few


def _is_time(column: "pd.Series[str]") -> bool:
    """Return whether all values are Unix times or dates."""
    if column.str.match(r"\d{4}-\d\d-\d\d").all():
        return True
    if not _are_numbers(column):
        return False
    numbers = column.astype(float)
    return any(bool(numbers.between(lowest, highest).all()) for lowest, highest in RANGES)


def _warn(form: LineForm, path: Path, width: int) -> None:
    others = [flag for other, flag in FLAGS.items() if other != form]
    meant = {"ratings": "user, item and rating", "triples": "head, relation and tail"}.get(form, "a user and items")
    logger.warning(
        "%s: the %d columns of every line are read as %s; set format to %s if they are not, or to %s to confirm",
        path.name, width, meant, " or ".join(others), FLAGS[form].split()[0],
    )  # fmt: skip
