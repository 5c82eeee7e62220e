"""``gmmrec.nn`` exports every layer by name, and contains nothing that only one model uses."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

import gmmrec.nn

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    module.name: ROOT.joinpath(*module.name.split(".")).with_suffix(".py")
    for module in pkgutil.walk_packages(gmmrec.nn.__path__, "gmmrec.nn.")
    if not module.ispkg
}
"""Every module of ``gmmrec.nn`` by its dotted name."""
PACKAGES = ["gmmrec.nn", *(m.name for m in pkgutil.walk_packages(gmmrec.nn.__path__, "gmmrec.nn.") if m.ispkg)]


def home_of(name: str) -> str:
    """Return the module that defines an exported name."""
    homes = [module for module, path in MODULES.items() if name in defined(path)]
    assert len(homes) == 1, f"{name} is defined in {homes or 'no module of gmmrec.nn'}"
    return homes[0]


@cache
def defined(path: Path) -> set[str]:
    """Return the names of the classes, functions and annotated values that a module defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def imported(path: Path) -> set[str]:
    """Return the modules of ``gmmrec.nn`` that a file imports; names from a package count for the module that defines them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if node.module in PACKAGES and alias.name in gmmrec.nn.__all__:
                    found.add(home_of(alias.name))
                else:
                    found |= {node.module, f"{node.module}.{alias.name}"}
    return found & set(MODULES)


EXPORTING = {home_of(name) for name in gmmrec.nn.__all__}
"""Modules with exported names."""


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_resolve_once_and_are_documented(package: str) -> None:
    names = import_module(package).__all__
    assert len(names) == len(set(names))
    for name in names:
        exported = getattr(import_module(package), name)
        assert exported is getattr(gmmrec.nn, name)
        assert exported is getattr(sys.modules[home_of(name)], name)
        if callable(exported):
            assert inspect.getdoc(exported), f"{name} has no docstring"
        if inspect.isclass(exported) and issubclass(exported, nn.Module):
            assert "Shapes:" in (exported.__doc__ or ""), f"the docstring of {name} has no shapes"


def test_every_layer_is_exported() -> None:
    layers = {
        name
        for module in MODULES
        for name, value in vars(import_module(module)).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module and not name.startswith("_")
    }
    assert len(layers) > 50
    assert layers - set(gmmrec.nn.__all__) == set()


def test_packages_export_what_their_modules_define() -> None:
    for package in PACKAGES[1:]:
        assert {home_of(name).rpartition(".")[0] for name in import_module(package).__all__} == {package}
        assert set(import_module(package).__all__) <= set(gmmrec.nn.__all__)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_test(module: str) -> None:
    path = MODULES[module].relative_to(ROOT / "gmmrec")
    assert (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()


def test_importing_layers_loads_no_other_subpackage() -> None:
    code = "import sys, gmmrec.nn; print(*sorted(m for m in sys.modules if m.startswith('gmmrec')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    package = {"gmmrec", "gmmrec.renamed", "gmmrec.errors"}  # any import of gmmrec brings its table of renamed names and its errors
    assert [name for name in loaded if name not in package and not f"{name}.".startswith("gmmrec.nn.")] == []
    assert set(MODULES) & set(loaded) >= EXPORTING


IMPORTS = {path: imported(path) for path in sorted((ROOT / "gmmrec").rglob("*.py"))}


def users_of(module: str, visited: frozenset[str] = frozenset()) -> set[str]:
    """Return the models that use a module, directly or through ``nn``, and ``"others"`` for exports and other packages."""
    users: set[str] = set()
    for path, modules in IMPORTS.items():
        if module not in modules:
            continue
        parts = path.relative_to(ROOT / "gmmrec").with_suffix("").parts
        name = ".".join(("gmmrec", *parts))
        if parts[0] == "models":
            users.add(parts[1])
        elif parts[0] != "nn" or name in EXPORTING:
            users.add("others")
        elif name in MODULES and name not in visited:
            users |= users_of(name, visited | {module})
    return users


@pytest.mark.parametrize("module", sorted(set(MODULES) - EXPORTING))
def test_module_used_by_one_model_belongs_to_that_model(module: str) -> None:
    users = users_of(module)
    home = f"gmmrec/models/{min(users, default='NAME')}/"
    assert len(users) > 1 or users == {"others"}, (
        f"{module} is not exported and is used only by {users or 'none'}; move it to {home}"
    )
