"""Markdown tables and pages, rendered from results."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

from lab.paths import BENCHMARKS, TABLES
from lab.results import RUNS, SEED, Row, Summary, summarise

NUMBER = re.compile(r"[-+]?\d")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table; columns of numbers are right-aligned, except for the first.

    >>> print(markdown(["model", "recall@20", "verdict"], [["ease", "0.0811", "better"]]))
    | model | recall@20 | verdict |
    |---|---:|---|
    | ease | 0.0811 | better |
    """
    body = [list(row) for row in rows]
    right = [bool(n) and all(not row[n] or NUMBER.match(row[n]) for row in body) for n in range(len(header))]
    rule = "".join("---:|" if number else "---|" for number in right)
    return "\n".join([line(header), f"|{rule}", *map(line, body)])


def line(cells: Sequence[str]) -> str:
    """Render one line of a table."""
    return f"| {' | '.join(cells)} |"


def spread(found: Summary | None, *, alone: bool = True, digits: int = 4) -> str:
    """Render mean and deviation; an empty cell for None.

    Args:
        found: Summary over seeds.
        alone: Show a deviation of 0 for a single run.
        digits: Number of decimals.

    >>> spread(Summary(0.25, 0.01, 3)), spread(Summary(0.25, None, 1)), spread(Summary(0.25, None, 1), alone=False)
    ('0.2500 ± 0.0100', '0.2500 ± 0.0000', '0.2500')
    """
    if found is None:
        return ""
    deviation = found.deviation if found.deviation is not None else 0.0 if alone and found.runs == 1 else None
    return f"{found.mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def shown(value: float | None, form: str = ".4f") -> str:
    """Render a number, or an empty cell for None."""
    return "" if value is None else format(value, form)


def by(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Group rows by columns, in the order of first appearance."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(column, "") for column in columns), []).append(row)
    return found


def spreads(rows: Sequence[Row], metrics: Iterable[str], *, alone: bool = True) -> list[str]:
    """Render one cell per metric: mean and deviation over seeds."""
    return [spread(summarise(rows, metric), alone=alone) for metric in metrics]


def seeds_of(rows: Sequence[Row]) -> list[int]:
    """Return the seeds behind rows; a summary of n runs has the first n.

    >>> seeds_of([{"seed": "4"}, {"seed": "2"}]), seeds_of([{"runs": "3"}])
    ([2, 4], [0, 1, 2])
    """
    summarised = max((int(row.get(RUNS, "1")) for row in rows if SEED not in row), default=0)
    return sorted({int(row[SEED]) for row in rows if SEED in row}) or list(range(summarised))


def page(title: str, *parts: str, name: str = "") -> str:
    """Render a page: title, paragraphs and tables, and its remark from ``remarks.yaml``."""
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in (*parts, remark(name)) if part.strip())]) + "\n"


@cache
def _remarks() -> dict[str, str]:
    return yaml.safe_load((BENCHMARKS / "remarks.yaml").read_text(encoding="utf-8")) or {}


def remark(name: str) -> str:
    """Return the hand-written remark on a table."""
    return _remarks().get(name, "")


def write(tables: Mapping[str, str], folder: Path = TABLES) -> None:
    """Write pages by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def between(text: str, begin: str, end: str, content: str) -> str:
    r"""Replace the text between two marks by ``content``.

    >>> between("a <!-- begin --> old <!-- end --> b", "<!-- begin -->", "<!-- end -->", "new")
    'a <!-- begin -->\nnew\n<!-- end --> b'
    """
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def begin_of(name: str, script: str) -> str:
    """Return the mark before a rendered block of a page."""
    return f"<!-- {name}: begin (made by `python benchmarks/{script} --tables-only`) -->"


def end_of(name: str) -> str:
    """Return the mark after a rendered block of a page."""
    return f"<!-- {name}: end -->"


def fill(blocks: Mapping[str, str], script: str, path: Path = BENCHMARKS / "README.md") -> None:
    """Render blocks of a page again, between their marks."""
    text = path.read_text(encoding="utf-8")
    for name, content in blocks.items():
        text = between(text, begin_of(name, script), end_of(name), content)
    path.write_text(text, encoding="utf-8")
