"""Rule for models: a row in the table, a class that declares query and settings, a page, a test."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.house.source import ROOT, Finding, Source
from tests.house.vocabulary import assigned, last_name

RULE = "model"
TABLE = "gmmrec/models/__init__.py"
BESIDE = ("gmmrec/models/lookup.py",)
"""Modules of the folder that are not models."""


def check_models(sources: Sequence[Source], root: Path = ROOT) -> Iterator[Finding]:
    """Compare the table of models with the modules beside it, the pages and the tests."""
    by_path = {source.path: source for source in sources}
    rows = read_table(by_path[TABLE])
    modules = {module.rpartition(".")[2] for module, _ in rows.values()}
    for path in sorted(by_path):
        parts = path.split("/")
        if parts[:2] == ["gmmrec", "models"] and path not in (TABLE, *BESIDE) and Path(parts[2]).stem not in modules:
            yield Finding(path, 1, RULE, f"no row names this model; add one to CARDS in {TABLE}")
    for name, (module, cls) in rows.items():
        stem = module.rpartition(".")[2]
        source = by_path.get(f"gmmrec/models/{stem}/model.py") or by_path.get(f"gmmrec/models/{stem}.py")
        if source is None:
            yield Finding(TABLE, 1, RULE, f"the row {name!r} names the module {module}, which does not exist; fix the row")
            continue
        yield from check_class(source, name, cls)
        if not (root / "docs" / "models" / f"{name}.md").is_file():
            yield Finding(source.path, 1, RULE, f"{name} has no page; write docs/models/{name}.md")
        if f"tests/models/test_{stem}.py" not in by_path and f"tests/models/{stem}/test_model.py" not in by_path:
            yield Finding(source.path, 1, RULE, f"{name} has no test; write tests/models/test_{stem}.py")


def check_class(source: Source, name: str, cls: str) -> Iterator[Finding]:
    """Check that a class declares ``Recommender[UserQuery, MineConfig]``."""
    for node in source.nodes:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            if not any(is_declared(base) for base in node.bases):
                message = f"{cls} does not declare query and settings; write class {cls}(Recommender[UserQuery, {cls}Config])"
                yield Finding(source.path, node.lineno, RULE, message)
            return
    yield Finding(source.path, 1, RULE, f"the row {name!r} names the class {cls}, which does not exist; fix the row in {TABLE}")


def is_declared(base: ast.expr) -> bool:
    """Return whether a base is ``Recommender`` of a query and settings."""
    is_contract = isinstance(base, ast.Subscript) and last_name(base) == "Recommender"
    return is_contract and isinstance(base.slice, ast.Tuple) and len(base.slice.elts) >= 2


def read_table(source: Source) -> Mapping[str, tuple[str, str]]:
    """Module and class of every model, by name."""
    for node in source.tree.body:
        if assigned(node) == "CARDS":
            table = node.value
            return {
                ast.literal_eval(key): tuple(ast.literal_eval(card.args[0]).split(":"))
                for key, card in zip(table.keys, table.values, strict=True)
            }
    raise ValueError(f"expected the table CARDS in {source.path}, found none")
