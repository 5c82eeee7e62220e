"""External test files, run in a separate process and folder."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

MODEL = '''
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from gmmrec.nn import bpr, inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import UserQuery


@dataclass(frozen=True)
class MineConfig:
    dim: int = 8


class Mine(Recommender[UserQuery, MineConfig]):
    """Matrix factorisation with item texts."""

    def __init__(self, schema, config):
        super().__init__(schema, config)
        self.users = nn.Parameter(0.1 * torch.randn(schema.num_nodes["user"], config.dim))
        self.items = nn.Parameter(0.1 * torch.randn(schema.num_nodes["item"], config.dim))
        self.read = nn.Linear(schema.feature_dims["text"], config.dim, bias=False)

    def encode(self, graph):
        text = graph.features["text"]
        known = self.read(text.values.masked_fill(~text.mask[:, None], 0))
        return Encoded({"user": graph.gather("user", self.users), "item": graph.gather("item", self.items) + known})

    def score(self, encoded, query, candidates):
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph, batch):
        scores = self.score(self.encode(graph), batch.query, batch.candidates)
        return {"bpr": bpr(scores[:, :1], scores[:, 1:])}
'''
"""An external model; the module ``mine``."""

THREE_LINES = """
from gmmrec.testing import RecommenderContract
from mine import Mine
class TestMine(RecommenderContract):
    model_class = Mine
"""


def run_tests(folder: Path, *arguments: str, path: Path | None = None, **modules: str) -> tuple[Mapping[str, str], str]:
    """Outcome of every test (``"TestMine.test_x"``: passed, failed, skipped or error), and what pytest printed.

    Args:
        folder: An empty folder, for ``modules`` and as working folder.
        path: Folder in front of the import path; the folder of this checkout otherwise.
        modules: Sources by module name.
    """
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    path = Path(__file__).resolve().parents[2] if path is None else path
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", "--junitxml", "results.xml", "-rs"]
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (folder / "results.xml").is_file(), output
    outcomes = {}
    for case in ElementTree.parse(folder / "results.xml").iter("testcase"):
        found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = {"failure": "failed"}.get(found[0], found[0]) if found else "passed"
        outcomes[f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"] = outcome
    return outcomes, output
