"""Choices are declared once, by the ``Literal`` of a setting."""

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import pytest

import gmmrec
from gmmrec.config import check_literals
from gmmrec.ensemble.blend import BlendConfig
from gmmrec.ensemble.member import Member
from gmmrec.models.graph_fusion.config import Fusion, GraphFusionConfig, Ids
from gmmrec.nn.decoder import DECODERS
from gmmrec.nn.encoder import PROPAGATIONS
from gmmrec.nn.fusion import FUSIONS

NEEDED: Mapping[type, Mapping[str, Any]] = {BlendConfig: {"members": (Member("lightgcn", {}, {}),), "weights": (1.0,)}}
"""Settings without defaults."""


def config_classes() -> list[type]:
    """Every dataclass of settings in the package."""
    found = set()
    for module in pkgutil.walk_packages(gmmrec.__path__, "gmmrec."):
        if not module.name.endswith("__main__"):
            found |= {value for value in vars(importlib.import_module(module.name)).values() if isinstance(value, type)}
    own = {kind for kind in found if is_dataclass(kind) and kind.__module__.startswith("gmmrec.")}
    return sorted((kind for kind in own if kind.__name__.endswith(("Config", "Settings"))), key=lambda kind: kind.__qualname__)


def has_literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or any(has_literal(each) for each in get_args(annotation))


CHOICES = [
    (kind, field.name)
    for kind in config_classes()
    for field in fields(kind)
    if kind.__name__ != "RunConfig" and has_literal(get_type_hints(kind)[field.name])
]


@pytest.mark.parametrize(("config_class", "name"), CHOICES, ids=[f"{kind.__name__}.{name}" for kind, name in CHOICES])
def test_every_choice_refuses_an_unknown_value(config_class, name):
    config = config_class(**NEEDED.get(config_class, {}))
    is_tuple = isinstance(getattr(config, name), tuple)
    with pytest.raises(ValueError, match=rf"^{name} must be one of '.*', but is 'no such value'$"):
        replace(config, **{name: ("no such value",) if is_tuple else "no such value"})


def test_there_are_choices_to_check():
    assert len(CHOICES) > 80
    assert (GraphFusionConfig, "fusion") in CHOICES


def test_parts_chosen_by_name_are_those_of_the_tables():
    assert set(get_args(Ids)) == {"none", *PROPAGATIONS}
    assert set(get_args(Fusion)) == set(FUSIONS)
    assert set(get_args(get_type_hints(GraphFusionConfig)["decoder"])) == set(DECODERS)


Colour: TypeAlias = Literal["red", "green"]


@dataclass(frozen=True)
class Settings:
    plain: Colour = "red"
    written: "Literal['a', 'b']" = "a"
    number: Literal[1, 2] = 1
    perhaps: Colour | None = None
    either: "Colour | Literal['blue']" = "blue"
    several: tuple[Colour, ...] = ()
    pair: tuple[Colour, int] = ("red", 3)
    sequence: Sequence[Colour] = ()
    by_name: Mapping[str, Colour] | None = None
    named: dict[Colour, int] | Colour = "red"
    free: str | list[Colour] = "anything"
    other: Any = None

    def __post_init__(self) -> None:
        check_literals(self)


@pytest.mark.parametrize(
    "good",
    [
        {"plain": "green", "written": "b", "number": 2, "perhaps": "red", "either": "red"},
        {"several": ("red", "green"), "pair": ("green", 7), "sequence": ["red"], "by_name": {"x": "red"}},
        {"named": {"red": 1}, "free": ["green"], "other": "pink"},
    ],
)
def test_declared_values_are_accepted(good):
    assert Settings(**good) == replace(Settings(), **good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"plain": "pink"}, "plain must be one of 'red', 'green', but is 'pink'"),
        ({"plain": None}, "plain must be one of 'red', 'green', but is None"),
        ({"plain": ["red"]}, "plain must be one of 'red', 'green', but is ['red']"),
        ({"written": "c"}, "written must be one of 'a', 'b', but is 'c'"),
        ({"number": 3}, "number must be one of 1, 2, but is 3"),
        ({"perhaps": "pink"}, "perhaps must be one of 'red', 'green', but is 'pink'"),
        ({"either": "pink"}, "either must be one of 'red', 'green', 'blue', but is 'pink'"),
        ({"several": ("red", "pink")}, "several must be one of 'red', 'green', but is 'pink'"),
        ({"pair": ("pink", 3)}, "pair must be one of 'red', 'green', but is 'pink'"),
        ({"sequence": ["pink"]}, "sequence must be one of 'red', 'green', but is 'pink'"),
        ({"by_name": {"x": "pink"}}, "by_name['x'] must be one of 'red', 'green', but is 'pink'"),
        ({"named": {"pink": 1}}, "named must be one of 'red', 'green', but is 'pink'"),
        ({"named": "pink"}, "named must be one of 'red', 'green', but is 'pink'"),
        ({"free": ["pink"]}, "free must be one of 'red', 'green', but is 'pink'"),
    ],
)
def test_other_values_are_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Settings(**bad)
