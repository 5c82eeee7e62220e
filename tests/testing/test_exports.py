"""Exports and requirements of ``gmmrec.testing``."""

import inspect
import subprocess
import sys
from pathlib import Path

import gmmrec.testing

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_exports_are_documented() -> None:
    assert sorted(gmmrec.testing.__all__) == sorted(set(gmmrec.testing.__all__))
    for name in gmmrec.testing.__all__:
        exported = getattr(gmmrec.testing, name)
        if callable(exported):
            assert inspect.getdoc(exported), f"{name} has no docstring"


def test_without_pytest_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "try:\n    import gmmrec.testing\n"
        "except ModuleNotFoundError as error:\n    print(error.name, error)"
    )
    expected = "pytest gmmrec.testing needs pytest, which is not installed; run: pip install 'gmmrec[testing]'"
    assert run(code).strip() == expected


def test_no_model_is_loaded() -> None:
    loaded = run("import sys, gmmrec.testing; print(*sys.modules)").split()
    assert "gmmrec.testing.contract" in loaded
    assert [name for name in loaded if name.startswith(("gmmrec.models", "gmmrec.runs", "gmmrec.cli"))] == []
