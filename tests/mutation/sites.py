"""Sites of a module where cosmic-ray can plant a mutant, and a seeded sample of them."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

PACKAGES = ("nn", "graph", "tasks", "evaluation", "runs")
KINDS = (("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"), ("BitAnd", "BitOr", "BitXor"), ("LShift", "RShift"))
COMPARISONS = (("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"), ("Is", "IsNot"))
NEED_ARGUMENTS = ("VariableReplacer", "VariableInserter")

Span = tuple[tuple[int, int], tuple[int, int]]
"""Line (from 1) and column (from 0, in characters) of the beginning and the end."""


@dataclass(frozen=True)
class Site:
    """A site, and the mutants it can have as pairs of an operator and its occurrence in the file."""

    file: str
    span: Span
    line: str
    nth: int
    """Number of lines above with the same text."""
    mutants: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    file: str
    number: int
    """Line in the file, from 1."""
    operator: str
    occurrence: int
    before: str
    after: str
    """The line before and after."""
    nth: int
    """Number of lines above with the same text."""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        return self.file, self.operator, self.before, self.after, self.nth


def is_plausible(operator: str) -> bool:
    """Return whether an operator leaves the kind of a value as it is: a sum becomes no shift, an order no identity.

    Mutants that change it raise at once and would be killed by any test.
    """
    name = operator.rpartition("/")[2]
    if name in NEED_ARGUMENTS:
        return False
    old, new = ([*name.split("_"), "", ""])[1:3]
    if name.startswith("ReplaceBinaryOperator"):
        return any(old in kind and new in kind for kind in KINDS)
    if name.startswith("ReplaceComparisonOperator"):
        return any(old in kind and new in kind for kind in COMPARISONS)
    if name.startswith("ReplaceUnaryOperator"):
        return old == "Delete" or (old, new) == ("USub", "UAdd")
    return True


OPERATORS = {name: cosmic_ray.plugins.get_operator(name)() for name in cosmic_ray.plugins.operator_names() if is_plausible(name)}


def sites(file: str, source: str) -> list[Site]:
    """Return all sites of a module that can be mutated; types are left out, as nothing runs them."""
    lines, skipped = [line.strip() for line in source.splitlines()], annotations(source)
    count: Counter[str] = Counter()
    found: defaultdict[Span, list[tuple[str, int]]] = defaultdict(list)
    for node in ast_nodes(get_ast(source)):
        is_marker = node.type == "operator" and node.parent.type in ("parameters", "lambdef")  # a star or slash of its own
        for name, operator in OPERATORS.items():
            for span in operator.mutation_positions(node):
                if not is_marker:
                    found[span].append((name, count[name]))
                count[name] += 1
    return [
        Site(file, span, lines[row], lines[:row].count(lines[row]), tuple(mutants))
        for span, mutants in sorted(found.items())
        for row in [span[0][0] - 1]
        if not any(begin <= span[0] and span[1] <= end for begin, end in skipped)
    ]


def annotations(source: str) -> list[Span]:
    """Return the spans of all types of parameters, results and variables."""
    lines = source.splitlines()
    types: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            types.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            types.append(node.returns)

    def position(line: int, offset: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:offset].decode())

    return [
        (position(node.lineno, node.col_offset), position(node.end_lineno, node.end_col_offset))
        for node in types
        if node is not None and node.end_lineno is not None and node.end_col_offset is not None
    ]


def sample(package: str, sources: dict[str, str], size: int, seed: int) -> list[Mutant]:
    """Draw mutants of a package, one per site, without replacement, in the order of their files.

    Every site has a number made of the seed, its file and its line of code, and the smallest are taken; so a change of one
    file leaves the mutants that are drawn elsewhere as they are.
    """
    ranked: list[tuple[int, Site]] = []
    for file, source in sources.items():
        if file.startswith(f"gmmrec/{package}/"):
            seen: Counter[str] = Counter()
            for site in sites(file, source):
                ranked.append((number(seed, file, site.line, seen[site.line]), site))
                seen[site.line] += 1
    ranked.sort(key=lambda pair: (pair[0], pair[1].file, pair[1].span))
    chosen = []
    for rank, site in ranked:
        if len(chosen) == size:
            break
        operator, occurrence = site.mutants[rank % len(site.mutants)]
        try:
            text = mutate(sources[site.file], operator, occurrence)
            ast.parse(text)
        except (ValueError, SyntaxError):
            continue
        after, position = text.splitlines(), site.span[0][0] - 1
        new = after[position].strip() if position < len(after) else ""
        chosen.append(Mutant(site.file, position + 1, operator.rpartition("/")[2], occurrence, site.line, new, site.nth))
    return sorted(chosen, key=lambda mutant: (mutant.file, mutant.number, mutant.operator, mutant.occurrence))


def mutate(source: str, operator: str, occurrence: int) -> str:
    """Return a module with one mutant.

    Raises:
        ValueError: There is no such site, or its mutant is not one that cosmic-ray can write.
    """
    name = operator if "/" in operator else next(name for name in OPERATORS if name.endswith(f"/{operator}"))
    try:
        changed = mutate_code(source, OPERATORS[name], occurrence)
    except AttributeError as error:  # of a dotted name of an exception
        raise ValueError(f"{operator} cannot change its occurrence {occurrence}") from error
    if changed is None:
        raise ValueError(f"{operator} has no occurrence {occurrence}")
    return changed


def number(*parts: object) -> int:
    return int.from_bytes(sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def read_package(root: Path, packages: Iterable[str]) -> dict[str, str]:
    """Return the text of every module of some packages by its path."""
    paths = [path for package in packages for path in sorted((root / "gmmrec" / package).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
