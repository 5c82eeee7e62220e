"""Names that code may not branch on: queries, tasks, evaluation tasks, models, abilities. Read from sources, never imported."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from tests.house.source import Source

ROOTS = ("Query", "Task", "Recommender")
"""Base classes whose subclasses only tables distinguish."""


@dataclass(frozen=True)
class Vocabulary:
    classes: frozenset[str]
    """Queries, tasks, evaluation tasks and models."""
    abilities: frozenset[str]
    kinds: frozenset[str]
    """Constants with a kind of evaluation."""
    names: frozenset[str]
    """Names of kinds of evaluation and of models."""


def read_vocabulary(sources: Iterable[Source]) -> Vocabulary:
    """Collect the names from class bases, from calls of ``EvaluationKind`` and from the keys of ``CARDS``."""
    package = [source for source in sources if source.folder == "gmmrec"]
    bases = {
        node.name: {last_name(base) for base in node.bases}
        for source in package
        for node in source.nodes
        if isinstance(node, ast.ClassDef)
    }
    abilities = {name for name, above in bases.items() if "Ability" in above}
    kinds, tasks, names = set(), set(), set()
    for node in (node for source in package for node in source.tree.body):
        target = assigned(node)
        value = getattr(node, "value", None)
        if target and isinstance(value, ast.Call) and last_name(value.func) == "EvaluationKind":
            given = {keyword.arg: keyword.value for keyword in value.keywords}
            kinds.add(target)
            tasks.add(last_name(given["task"]))
            names.add(ast.literal_eval(given["name"]))
        elif target == "CARDS" and isinstance(value, ast.Dict):
            names.update(ast.literal_eval(key) for key in value.keys if key is not None)
    return Vocabulary(
        frozenset(heirs(bases, ROOTS) | tasks), frozenset(abilities | {"Ability"}), frozenset(kinds), frozenset(names)
    )


def heirs(bases: dict[str, set[str]], roots: Iterable[str]) -> set[str]:
    """Return the roots and all their subclasses."""
    found = set(roots)
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def last_name(node: ast.AST) -> str:
    """Return ``Query`` for ``Query``, ``query.Query``, ``Query[int]`` and ``"Query"``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else str(getattr(node, "value", ""))


def assigned(node: ast.AST) -> str:
    """Return the name that a statement assigns, empty for other statements."""
    if isinstance(node, ast.AnnAssign):
        return last_name(node.target)
    return last_name(node.targets[0]) if isinstance(node, ast.Assign) else ""
