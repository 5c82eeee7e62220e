"""Every source has a test file of its name in the mirrored folder, or a line below that names the covering test."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COVERED = {
    "__init__.py": "runs/test_recipe.py",
    "__main__.py": "cli/test_module.py",
    "cli/evaluate.py": "cli/test_main.py",
    "cli/link.py": "serving/test_link_prediction.py",
    "cli/models.py": "cli/test_main.py",
    "cli/recommend.py": "cli/test_main.py",
    "cli/train.py": "cli/test_main.py",
    "data/dataset.py": "data/test_assemble.py",
    "data/encode/parts.py": "data/encode/test_extract.py",
    "data/encode/reduce.py": "data/encode/test_extract.py",
    "data/encode/regions.py": "data/encode/test_encoders.py",
    "data/encode/source.py": "data/encode/test_extract.py",
    "data/impressions.py": "tasks/test_impressions.py",
    "data/outfits.py": "tasks/test_outfit.py",
    "data/pyg.py": "data/test_from_pyg.py",
    "data/tables.py": "data/test_assemble.py",
    "data/triples.py": "tasks/test_link_prediction.py",
    "ensemble/graphs.py": "ensemble/test_blend.py",
    "ensemble/member.py": "ensemble/test_blend.py",
    "ensemble/table.py": "test_abilities.py",
    "evaluation/groups.py": "evaluation/test_evaluator.py",
    "evaluation/report.py": "evaluation/test_results.py",
    "evaluation/settings.py": "evaluation/test_evaluator.py",
    "graph/denoise.py": "models/test_freedom.py",
    "graph/histories.py": "models/test_ease.py",
    "graph/latent.py": "models/test_lattice.py",
    "graph/smoothing.py": "models/graph_fusion/test_model.py",
    "models/__init__.py": "models/test_table.py",
    "models/graph_fusion/config.py": "models/graph_fusion/test_model.py",
    "models/mml/config.py": "models/mml/test_model.py",
    "report/outfits.py": "report/test_page.py",
    "report/overlay.py": "report/test_picture.py",
    "runs/config.py": "runs/test_recipe.py",
    "runs/consistency.py": "runs/test_strangers.py",
    "runs/folder.py": "runs/test_recipe.py",
    "runs/run.py": "runs/test_recipe.py",
    "runs/summary.py": "runs/test_combine.py",
    "tasks/__init__.py": "tasks/test_tasks.py",
    "tasks/evaluation_tasks.py": "evaluation/test_candidates.py",
    "tasks/inputs.py": "tasks/test_collaborative.py",
    "tasks/task.py": "tasks/test_tasks.py",
    "testing/contract.py": "models/test_contract.py",
    "testing/histories.py": "models/test_contract.py",
    "training/files.py": "training/test_resume.py",
    "typing.py": "graph/test_build.py",
}
"""Sources without a mirrored test, below ``gmmrec/``, and the test that covers each, below ``tests/``."""


def is_code(path: Path) -> bool:
    """Return whether a source is more than the exports of a package."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return path.name != "__init__.py" or any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes)


def mirror(source: str) -> Path:
    path = Path(source)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


SOURCES = [str(p.relative_to(ROOT / "gmmrec")) for p in sorted((ROOT / "gmmrec").rglob("*.py")) if is_code(p)]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_a_test(source: str) -> None:
    if mirror(source).is_file():
        assert source not in COVERED, f"{source} has its own test; remove its line from COVERED"
    else:
        assert source in COVERED, f"add tests/{mirror(source).relative_to(ROOT / 'tests')}, or a line to COVERED"


@cache
def imported(path: Path) -> frozenset[Path]:
    """Sources that a file imports, those that a package exports included."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            position = ROOT.joinpath(*name.split("."))
            found |= {file for file in (position / "__init__.py", position.with_suffix(".py")) if file.is_file()}
    exports = {file for file in found if file.name == "__init__.py" and file != path and file.parent != ROOT / "gmmrec"}
    return frozenset(found.union(*map(imported, exports)))


@pytest.mark.parametrize("source", [source for source in COVERED if source != "__main__.py"])
def test_covering_tests_import_what_they_cover(source: str) -> None:
    assert source in SOURCES, f"gmmrec/{source} is gone; remove its line from COVERED"
    direct = imported(ROOT / "tests" / COVERED[source])
    assert ROOT / "gmmrec" / source in direct.union(*map(imported, direct)), (
        f"tests/{COVERED[source]} does not reach gmmrec/{source}"
    )
