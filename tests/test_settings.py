import re
from dataclasses import dataclass
from typing import Literal

import pytest

from gmmrec.config import check_positive, read_settings


@dataclass(frozen=True)
class Fruit:
    """Fruit."""

    count: int = 3
    """How many."""
    colour: Literal["red", "green"] = "red"
    """Its colour."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""

    def __post_init__(self) -> None:
        check_positive(count=self.count)


def read(values=None, *arguments):
    return read_settings({"fruit": Fruit, "other": Fruit}, values or {}, arguments)


def test_flags_override_values_and_values_override_defaults():
    settings = read({"fruit": {"count": 5, "colour": "green"}}, "--fruit.count", "7")
    assert settings["fruit"] == Fruit(7, "green")
    assert settings["other"] == Fruit()


def test_lists_fill_tuples():
    assert read({"fruit": {"sizes": [4, 5]}})["fruit"].sizes == (4, 5)
    assert read(None, "--fruit.sizes", "[6]")["fruit"].sizes == (6,)


@pytest.mark.parametrize(
    ("values", "arguments", "message"),
    [
        ({"fruit": {"cuont": 5}}, (), "unknown setting 'fruit.cuont'; the nearest known name is 'fruit.count'"),
        ({}, ("--fruit.cuont", "5"), "unknown setting 'fruit.cuont'; the nearest known name is 'fruit.count'"),
        ({}, ("--count=5",), "unknown setting 'count'; the nearest known name is 'fruit.count'"),
        ({"fruit": {"count": "many"}}, (), "setting 'fruit.count' must be int, but is 'many'"),
        ({}, ("--fruit.count", "2.5"), "setting 'fruit.count' must be int, but is '2.5'"),
        ({}, ("--fruit.colour", "blue"), "setting 'fruit.colour' must be Literal['red', 'green'], but is 'blue'"),
        ({"fruit": {"count": 0}}, (), "count must be greater than 0, but is 0"),
    ],
)
def test_refused_settings_are_named(values, arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read(values, *arguments)
