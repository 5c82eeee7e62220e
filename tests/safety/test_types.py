"""Types of settings from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from gmmrec.errors import UsageError
from gmmrec.models import MODELS
from gmmrec.safety.types import check_fields, conforms


@dataclass
class Inner:
    size: int = 1


@dataclass
class Settings:
    dim: int = 8
    kind: Literal["a", "b"] | None = None
    ks: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], r"must hold settings by name, but holds '\[1\]'"),
        ({"dims": 8}, "has the unknown setting 'dims'"),
        ({1: 8}, "has the unknown setting '1'"),
        ({"dim": None}, "has 'None' for 'dim', but it must be int"),
        ({"dim": True}, "has 'True' for 'dim', but it must be int"),
        ({"dim": [8]}, r"has '\[8\]' for 'dim'"),
        ({"kind": "c"}, r"has 'c' for 'kind', but it must be "),
        ({"ks": 5}, "has '5' for 'ks'"),
        ({"ks": ["5"]}, ".* for 'ks'"),
        ({"inner": 3}, "has '3' for 'inner', but it must be Inner"),
        ({"inner": {"size": "x"}}, ".* for 'inner'"),
    ],
)
def test_other_types_are_refused(values, message):
    with pytest.raises(UsageError, match=f"^config.yaml {message}.*the file was changed since$"):
        check_fields(Settings, values, "config.yaml")


def test_plain_data_passes():
    check_fields(Settings, {"dim": 4, "kind": None, "ks": [1, 2], "inner": {"size": 2}}, "config.yaml")
    check_fields(Settings, {}, "config.yaml")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (float, 1, "1"),
        (float, 2.5, 10**400),
        (int, 2**63 - 1, 2**63),
        (bool, True, 1),
        (str, "a", 1),
        (int | None, None, 1.5),
        (Mapping[str, int], {"a": 1}, {"a": "b"}),
        (Sequence[str], ["a"], "a"),
        (list[str], ["a"], [1]),
        (tuple[int, str], [1, "a"], [1]),
        (Literal[1, "a"], 1, True),
    ],
)
def test_values_conform_to_annotations(annotation, good, bad):
    assert conforms(annotation, good)
    assert not conforms(annotation, bad)
    assert conforms(Any, bad)


@pytest.mark.parametrize("name", MODELS)
def test_the_defaults_of_every_model_conform(name):
    config = MODELS[name].config_class
    check_fields(config, vars(config()), name)
