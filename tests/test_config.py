from dataclasses import dataclass

import pytest

from gmmrec.config import check_choice, check_non_negative, check_positive, check_probability, read_settings
from gmmrec.models import MODELS


@dataclass(frozen=True)
class Cake:
    """A cake.

    Args:
        eggs: How many.
        sugar: Share of it.
    """

    eggs: int = 3
    sugar: float = 0.5

    def __post_init__(self) -> None:
        check_positive(eggs=self.eggs)
        check_probability(sugar=self.sugar)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_positive, (1, 0.1), (0, -1, float("nan"))),
        (check_non_negative, (0, 2), (-0.1, float("nan"))),
        (check_probability, (0, 0.3, 1), (-0.1, 1.1, float("nan"))),
    ],
)
def test_ranges(check, good, bad) -> None:
    for value in good:
        check(field=value)
    for value in bad:
        with pytest.raises(ValueError, match=f"field must .*, but is {value}"):
            check(field=value)


def test_the_first_wrong_field_is_named() -> None:
    with pytest.raises(ValueError, match="dim must be greater than 0, but is 0"):
        check_positive(layers=1, dim=0)


def test_choices_are_listed() -> None:
    check_choice(("mean", "sum"), pooling="sum")
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'sum', but is 'max'"):
        check_choice(("mean", "sum"), pooling="max")


def test_flags_override_values_and_values_override_defaults() -> None:
    assert read_settings({"cake": Cake}, {})["cake"] == Cake()
    assert read_settings({"cake": Cake}, {"cake": {"eggs": 4, "sugar": 0.1}}, ["--cake.sugar", "0.2"])["cake"] == Cake(4, 0.2)


@pytest.mark.parametrize(
    ("values", "arguments"), [({"cake": {"egg": 4}}, []), ({}, ["--cake.egg", "4"])], ids=["in the file", "as a flag"]
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(values, arguments) -> None:
    with pytest.raises(ValueError, match=r"unknown setting 'cake\.egg'; the nearest known name is 'cake\.eggs'"):
        read_settings({"cake": Cake}, values, arguments)


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"cake\.eggs.*many"):
        read_settings({"cake": Cake}, {"cake": {"eggs": "many"}})


def test_an_impossible_value_is_refused() -> None:
    with pytest.raises(ValueError, match="eggs must be greater than 0, but is 0"):
        read_settings({"cake": Cake}, {}, ["--cake.eggs", "0"])


@pytest.mark.parametrize("model_class", MODELS.values(), ids=MODELS)
def test_every_model_is_configured_by_defaults(model_class) -> None:
    config_class = model_class.config_class
    assert read_settings({"model": config_class}, {})["model"] == config_class()
