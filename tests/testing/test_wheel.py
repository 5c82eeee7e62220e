"""The suite from an installed wheel, on an external model."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing.outside import MODEL, THREE_LINES, run_tests

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

FAULTS = """
import torch
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import RecommenderContract
from mine import Encoded, Mine

class WrongRow(Mine):
    def score(self, encoded, query, candidates):
        return super().score(encoded, UserQuery(query.user // 2), candidates)

class WholeBatch(Mine):
    def score(self, encoded, query, candidates):
        scores = super().score(encoded, query, candidates)
        return scores - scores.mean(0)

class ReadsHidden(Mine):
    def encode(self, graph):
        return Encoded({"user": self.users, "item": self.items + self.read(graph.data["item"]["text"])})

class NeverTrained(Mine):
    def loss(self, graph, batch):
        return {"bpr": super().loss(graph, batch)["bpr"].detach() + 0 * self.users.sum()}

class TestWrongRow(RecommenderContract):
    model_class = WrongRow

class TestWholeBatch(RecommenderContract):
    model_class = WholeBatch

class TestReadsHidden(RecommenderContract):
    model_class = ReadsHidden

class TestNeverTrained(RecommenderContract):
    model_class = NeverTrained
"""
CAUGHT = {
    "TestWrongRow.test_learns_the_checkerboard",
    "TestWholeBatch.test_scores_do_not_depend_on_the_rest_of_the_batch",
    "TestReadsHidden.test_masked_values_do_not_affect_scores",
    "TestNeverTrained.test_gradients_reach_every_parameter",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Folder with the installed wheel of this tree, built from a copy without leftovers of earlier builds."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    shutil.copytree(ROOT / "gmmrec", source / "gmmrec", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    run([*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels)])
    (wheel,) = wheels.glob("gmmrec-*.whl")
    run([*pip, "install", str(wheel), "--no-deps", "--no-index", "--target", str(target)])
    return target


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_files_of_the_package_are_installed(installed) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert files(installed / "gmmrec") == files(ROOT / "gmmrec")
    assert {"testing/contract.py", "report/templates/page.html", "py.typed"} <= files(installed / "gmmrec")
    assert any(name.startswith("data/bundled/") for name in files(installed / "gmmrec"))


def test_a_model_from_outside_is_checked_and_its_faults_are_caught(installed, tmp_path) -> None:
    where = f"""
import gmmrec
from pathlib import Path
def test_the_wheel_is_what_is_imported():
    assert Path(gmmrec.__file__).is_relative_to({str(installed)!r})
"""
    outcomes, output = run_tests(
        tmp_path, "-vv", path=installed, mine=MODEL, test_mine=THREE_LINES, test_faults=FAULTS, test_where=where
    )
    assert outcomes["test_where.test_the_wheel_is_what_is_imported"] == "passed", output
    mine = {name: outcome for name, outcome in outcomes.items() if name.startswith("TestMine.")}
    assert set(mine.values()) == {"passed", "skipped"}, output
    assert sum(outcome == "passed" for outcome in mine.values()) >= 14
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    assert failed >= CAUGHT, output
    assert "assert ['users', 'items', 'read.weight'] == []" in output, output  # pytest shows values: assertions are rewritten
