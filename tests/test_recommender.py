"""Types of the contract: declared once, checked by mypy and at class creation."""

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
ALIAS = re.compile(r"\b(\w+)(?:, [\w.]+)* = (?:self\.)?config\b(?!\.)|, (\w+) = .*, config$")
"""A shorter name for the settings."""


@dataclass(frozen=True)
class Settings:
    dim: int = 2


def test_query_and_settings_follow_from_the_declaration():
    class Mine(Recommender[RatingQuery, Settings]):
        pass

    class Heir(Mine):
        pass

    assert (Mine.query_type, Mine.config_class) == (RatingQuery, Settings)
    assert (Heir.query_type, Heir.config_class) == (RatingQuery, Settings)
    assert (LightGCN.query_type, LightGCN.config_class) == (UserQuery, LightGCNConfig)


Q = TypeVar("Q", bound=Query)
DECLARATIONS = {
    "no arguments": lambda: Recommender,
    "no settings": lambda: Recommender[UserQuery],
    "no query": lambda: Recommender[Settings, Settings],
    "no dataclass": lambda: Recommender[UserQuery, dict],
    "in reverse": lambda: Recommender[Settings, UserQuery],
    "left open": lambda: Recommender[Q, Settings],
    "by name": lambda: Recommender["UserQuery", Settings],
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_class_without_query_or_settings_is_refused(name):
    message = "Mine must name its query and its settings, a dataclass: write 'class Mine(Recommender[UserQuery, MineConfig])'"
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


def test_all_tensors_of_an_encoding_are_mapped_in_any_field():
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


def test_a_plain_dictionary_is_refused_as_an_encoding(monkeypatch):
    graph = toy_graph()
    model = Popularity(graph.schema, PopularityConfig())
    assert isinstance(encode(model, graph), Encoded)
    monkeypatch.setattr(Popularity, "encode", lambda self, graph: {"item": torch.ones(1)})
    message = "Popularity.encode must return an Encoded, but returned a dict; write 'return Encoded({...})'"
    with pytest.raises(ValueError, match=re.escape(message)):
        encode(model, graph)


@pytest.mark.slow
def test_a_misspelt_setting_in_any_model_is_a_type_error(tmp_path):
    """One run of mypy over a copy of the package, with a wrong name at every access of a setting in a model."""
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
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--no-error-summary", "--show-error-codes"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"^(gmmrec/models/[\w/]+\.py):(\d+): error: .* has no attribute \"\w+_misspelt\"", run.stdout, re.MULTILINE)
    missed = sorted(planted - {(name, int(number)) for name, number in found})
    assert missed == [], run.stdout[:2000] + run.stderr
    readers = {f"{model.__module__.replace('.', '/')}.py" for model in MODELS.values()}
    silent = readers - {name for name, _ in planted}
    assert silent == {"gmmrec/models/popularity.py"}, "these read no setting"
