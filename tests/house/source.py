"""Sources and findings of the rules."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("gmmrec", "benchmarks", "data_scripts", "tests")


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    message: str
    """Description and remedy."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Source:
    """A file, with its path from the root."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def folder(self) -> str:
        return self.path.partition("/")[0]

    def docstrings(self) -> Iterator[tuple[int, str]]:
        """Yield line and text of the docstrings of the module, its classes and functions."""
        for node in self.nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield node.body[0].lineno, text


def read_sources(root: Path = ROOT) -> list[Source]:
    """Return all Python files below the four folders."""
    paths = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")))
    return [Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
