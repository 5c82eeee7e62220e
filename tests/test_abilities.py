"""Abilities: declared by name, checked by signature, looked up in one place."""

import ast
import inspect
import re
from pathlib import Path
from types import new_class

import pytest
import torch

from gmmrec import abilities
from gmmrec.abilities import Ability, Attends, FoldsInUsers, NonPersonalized, ReadsHistories, offered, offers
from gmmrec.models import MODELS
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.popularity import Popularity
from gmmrec.testing import toy_graph

ALL = [value for value in vars(abilities).values() if isinstance(value, type) and Ability in value.__bases__]
SOURCES = Path(abilities.__file__).parent


def attention(self, encoded, query, items):
    return {"id": torch.ones(len(items))}


def test_an_ability_is_offered_by_the_classes_that_declare_it():
    class Looks(LightGCN, Attends):
        attention = attention

    model = Looks(toy_graph().schema, LightGCNConfig(dim=2))
    assert offered(model, Attends) is model
    assert offered(model, ReadsHistories) is None
    assert offers(Looks, Attends)
    assert offers(Popularity, NonPersonalized)
    assert not offers(Popularity, FoldsInUsers)
    silent = new_class("Silent", (LightGCN,), exec_body=lambda body: body.update(attention=attention))
    assert not offers(silent, Attends)  # the method alone is no declaration


@pytest.mark.parametrize(
    ("ability", "member", "message"),
    [
        (
            Attends,
            {},
            "Mine declares Attends, but has no method attention(encoded, query, items); write it, or leave the ability out",
        ),
        (
            Attends,
            {"attention": lambda self, encoded, items: None},
            "Mine.attention must take (encoded, query, items), as in Attends, but takes (encoded, items); "
            "rename its parameters, and give further ones a default",
        ),
        (
            Attends,
            {"attention": lambda self, encoded, query, items, heads: None},
            "Mine.attention must take (encoded, query, items), as in Attends, but takes (encoded, query, items, heads); "
            "rename its parameters, and give further ones a default",
        ),
        (
            ReadsHistories,
            {},
            "Mine declares ReadsHistories, but has no property history_length; write it, or leave the ability out",
        ),
        (
            ReadsHistories,
            {"history_length": lambda self: 3},
            "Mine.history_length must be a property, as in ReadsHistories; write @property above it",
        ),
    ],
)
def test_a_class_that_lacks_what_it_declares_is_refused(ability, member, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        new_class("Mine", (LightGCN, ability), exec_body=lambda body: body.update(member))


def test_further_parameters_with_defaults_are_fine():
    member = {"attention": lambda self, encoded, query, items, heads=1, **more: None}
    assert offers(new_class("Mine", (LightGCN, Attends), exec_body=lambda body: body.update(member)), Attends)


@pytest.mark.parametrize("ability", ALL)
def test_every_ability_is_documented_and_used(ability):
    assert inspect.getdoc(ability)
    assert any(issubclass(model, ability) for model in MODELS.values())


def test_abilities_are_checked_in_one_module_only():
    names = {ability.__name__ for ability in ALL}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
                found = {each.id for argument in node.args[1:] for each in ast.walk(argument) if isinstance(each, ast.Name)}
                assert not found & names, f"{path}:{node.lineno}: ask with offered(...)"
