"""The contract's types: declared once, checked by mypy and at class creation."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import new_class, resolve_bases
from typing import NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedSets
from gmmrec.models import MODELS
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.popularity import Popularity, PopularityConfig
from gmmrec.recommender import Encoded, Recommender, encode
from gmmrec.tasks.query import Query, RatingQuery, UserQuery
from gmmrec.testing import toy_graph

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".mypy_cache"
ALIAS = re.compile(r"\b(\w+)(?:, [\w.]+)* = (?:self\.)?config\b(?!\.)|, (\w+) = .*, config$")
"""A local alias of the config."""


@dataclass(frozen=True)
class Settings:
    dim: int = 2


def test_query_and_config_follow_from_the_declaration():
    class Mine(Recommender[RatingQuery, Settings]):
        pass

    class Derived(Mine):
        pass

    assert (Mine.query_type, Mine.config_class) == (RatingQuery, Settings)
    assert (Derived.query_type, Derived.config_class) == (RatingQuery, Settings)
    assert (LightGCN.query_type, LightGCN.config_class) == (UserQuery, LightGCNConfig)


Q = TypeVar("Q", bound=Query)
DECLARATIONS = {
    "no arguments": lambda: Recommender,
    "no config": lambda: Recommender[UserQuery],
    "no query": lambda: Recommender[Settings, Settings],
    "no dataclass": lambda: Recommender[UserQuery, dict],
    "reversed": lambda: Recommender[Settings, UserQuery],
    "unbound": lambda: Recommender[Q, Settings],
    "as a string": lambda: Recommender["UserQuery", Settings],
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_class_without_query_or_config_is_refused(name):
    message = "Mine must declare its query type and its config, a dataclass; write 'class Mine(Recommender[UserQuery, MineConfig])'"
    base = DECLARATIONS[name]()
    with pytest.raises(TypeError, match=re.escape(message)):
        new_class("Mine", resolve_bases((base,)), exec_body=lambda body: body.update(__orig_bases__=(base,)))


class Side(NamedTuple):
    vector: Tensor
    sizes: list[int]


@dataclass(frozen=True)
class Wide(Encoded):
    side: Side
    seen: RaggedSets
    members: dict[int, Encoded]
    name: str = "wide"
    extra: Tensor | None = None


def test_map_reaches_tensors_of_all_fields():
    ones = torch.ones(2, 3, requires_grad=True)
    seen = RaggedSets(torch.tensor([0, 1, 1]), torch.tensor([4]))
    wide = Wide({"item": ones}, Side(ones[0], [1, 2]), seen, {3: Encoded({"user": ones * 2})})
    assert dict(wide) == {"item": ones}
    assert len(wide.tensors()) == 5
    assert all(not tensor.requires_grad for tensor in wide.detach().tensors())
    meta = wide.to("meta")
    assert isinstance(meta, Wide)
    assert {str(tensor.device) for tensor in meta.tensors()} == {"meta"}
    assert (meta.name, meta.extra, meta.side.sizes) == ("wide", None, [1, 2])
    assert wide.map(lambda x: x + 1).members[3]["user"].tolist() == [[3.0] * 3] * 2
    assert wide.map(lambda x: x + 1).seen.values.tolist() == [5]
    assert wide["item"] is ones


def test_encode_refuses_a_plain_dictionary(monkeypatch):
    graph = toy_graph()
    model = Popularity(graph.schema, PopularityConfig())
    assert isinstance(encode(model, graph), Encoded)
    monkeypatch.setattr(Popularity, "encode", lambda self, graph: {"item": torch.ones(1)})
    message = "Popularity.encode must return an Encoded, but returned a dict; write 'return Encoded({...})'"
    with pytest.raises(ValueError, match=re.escape(message)):
        encode(model, graph)


@pytest.mark.slow
def test_misspelt_setting_in_any_model_is_a_type_error(tmp_path):
    """Run mypy on a copy of the package with a misspelt name wherever a model reads a setting."""
    shutil.copytree(ROOT / "gmmrec", tmp_path / "gmmrec", ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = set()
    for path in sorted((tmp_path / "gmmrec" / "models").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        names = {"config", *(name for line in lines for found in ALIAS.findall(line) for name in found if name)}
        read = re.compile(rf"\b(?<!\.)((?:self\.)?config|{'|'.join(names)})\.([a-z]\w*)")
        for number, line in enumerate(lines, 1):
            changed, count = read.subn(r"\1.\2_misspelt", line)
            if count and not line.lstrip().startswith(("from ", "import ", "#")):
                lines[number - 1] = changed
                planted.add((path.relative_to(tmp_path).as_posix(), number))
        path.write_text("".join(lines), encoding="utf-8")
    if CACHE.is_dir():  # left by `make lint`: mypy compares digests of files, so only what changed is checked again
        shutil.copytree(CACHE, tmp_path / CACHE.name)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--show-error-codes", "gmmrec"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"^(gmmrec/models/[\w/]+\.py):(\d+): error: .* has no attribute \"\w+_misspelt\"", run.stdout, re.MULTILINE)
    missed = sorted(planted - {(name, int(number)) for name, number in found})
    assert missed == [], run.stdout[:2000] + run.stderr
    readers = {f"{model.__module__.replace('.', '/')}.py" for model in MODELS.values()}
    unused = readers - {name for name, _ in planted}
    assert unused == {"gmmrec/models/popularity.py"}, "these models read no setting"
