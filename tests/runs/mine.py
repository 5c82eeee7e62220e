"""Classes of somebody else, as the text of a module ``mine``; tests write it where they need it."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

SOURCE = '''
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from gmmrec.abilities import Attends
from gmmrec.nn import bpr, inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import UserQuery


@dataclass(frozen=True)
class MineConfig:
    dim: int = 8


class Mine(Recommender[UserQuery, MineConfig], Attends):
    """Matrix factorisation that shows how alike users and items are."""

    def __init__(self, schema, config):
        super().__init__(schema, config)
        self.users = nn.Parameter(0.1 * torch.randn(schema.num_nodes["user"], config.dim))
        self.items = nn.Parameter(0.1 * torch.randn(schema.num_nodes["item"], config.dim))

    def encode(self, graph):
        return Encoded({"user": graph.gather("user", self.users), "item": graph.gather("item", self.items)})

    def score(self, encoded, query, candidates):
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph, batch):
        scores = self.score(self.encode(graph), batch.query, batch.candidates)
        return {"bpr": bpr(scores[:, :1], scores[:, 1:])}

    def attention(self, encoded, query, items):
        return {"id": torch.ones(len(items))}


class Other(Mine):
    pass


class Loud(nn.Module):
    """A fusion with a weight for every view."""

    def __init__(self, dim, num_tokens):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_tokens, 1))

    def forward(self, tokens, mask=None, query=None):
        shown = tokens if mask is None else tokens.masked_fill(~mask[..., None], 0)
        return (self.weight * shown).sum(-2)


class Quiet(Loud):
    pass


NOTHING = 3
'''


@contextmanager
def imported(folder: Path, name: str = "mine") -> Iterator[ModuleType]:
    """The module as written into a folder; afterwards the folder is off the path, and the module forgotten."""
    (folder / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(name)
    finally:
        sys.modules.pop(name, None)
        sys.path.remove(str(folder))


def install(folder: Path, name: str = "theirs", value: str = "theirs_package:Mine") -> None:
    """What an installer leaves of a package that declares a model as an entry point, and the package itself."""
    (folder / "theirs_package.py").write_text(SOURCE, encoding="utf-8")
    about = folder / "theirs_package-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs-package\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(f"[gmmrec.models]\n{name} = {value}\n")
