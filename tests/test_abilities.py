"""Abilities: declared as bases, checked by signature, queried through one function."""

import ast
import inspect
import re
from pathlib import Path
from types import new_class

import pytest
import torch

from gmmrec import abilities
from gmmrec.abilities import Ability, AcceptsParts, Attends, FoldsInUsers, NonPersonalized, ReadsHistories, offered, offers
from gmmrec.ensemble.table import ENSEMBLES
from gmmrec.models import MODELS
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.popularity import Popularity
from gmmrec.testing import toy_graph

ALL = [value for value in vars(abilities).values() if isinstance(value, type) and Ability in value.__bases__]
SOURCES = Path(abilities.__file__).parent


def attention(self, encoded, query, items):
    return {"id": torch.ones(len(items))}


def test_only_declaring_classes_offer_an_ability():
    class Attentive(LightGCN, Attends):
        attention = attention

    model = Attentive(toy_graph().schema, LightGCNConfig(dim=2))
    assert offered(model, Attends) is model
    assert offered(model, ReadsHistories) is None
    assert offers(Attentive, Attends)
    assert offers(Popularity, NonPersonalized)
    assert not offers(Popularity, FoldsInUsers)
    undeclared = new_class("Undeclared", (LightGCN,), exec_body=lambda body: body.update(attention=attention))
    assert not offers(undeclared, Attends)  # the method alone is no declaration


@pytest.mark.parametrize(
    ("ability", "member", "message"),
    [
        (
            Attends,
            {},
            "Mine declares Attends, but has no method attention(encoded, query, items); implement it, or drop the ability",
        ),
        (
            Attends,
            {"attention": lambda self, encoded, items: None},
            "Mine.attention must take (encoded, query, items), as in Attends, but takes (encoded, items); "
            "rename its parameters, and give extra ones a default",
        ),
        (
            Attends,
            {"attention": lambda self, encoded, query, items, heads: None},
            "Mine.attention must take (encoded, query, items), as in Attends, but takes (encoded, query, items, heads); "
            "rename its parameters, and give extra ones a default",
        ),
        (
            ReadsHistories,
            {},
            "Mine declares ReadsHistories, but has no property history_length; implement it, or drop the ability",
        ),
        (
            ReadsHistories,
            {"history_length": lambda self: 3},
            "Mine.history_length must be a property, as in ReadsHistories; decorate it with @property",
        ),
        (
            AcceptsParts,
            {"custom_parts": property(lambda self: {})},
            "Mine declares AcceptsParts, but has no method with_parts(schema, config, parts); implement it, or drop the ability",
        ),
        (
            AcceptsParts,
            {"custom_parts": property(lambda self: {}), "with_parts": lambda self, schema, config, parts: None},
            "Mine.with_parts must be a class method, as in AcceptsParts; decorate it with @classmethod",
        ),
    ],
)
def test_incomplete_abilities_are_refused(ability, member, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        new_class("Mine", (LightGCN, ability), exec_body=lambda body: body.update(member))


def test_extra_parameters_with_defaults_are_accepted():
    member = {"attention": lambda self, encoded, query, items, heads=1, **more: None}
    assert offers(new_class("Mine", (LightGCN, Attends), exec_body=lambda body: body.update(member)), Attends)


@pytest.mark.parametrize("ability", ALL)
def test_every_ability_is_documented_and_used(ability):
    assert inspect.getdoc(ability)
    assert any(issubclass(model, ability) for model in (*MODELS.values(), *ENSEMBLES.values()))


def test_abilities_are_queried_only_with_offered():
    names = {ability.__name__ for ability in ALL}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
                used = {each.id for argument in node.args[1:] for each in ast.walk(argument) if isinstance(each, ast.Name)}
                assert not used & names, f"{path}:{node.lineno}: use offered(...)"
