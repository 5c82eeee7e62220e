import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch

from gmmrec.config import check_positive, from_plain, read_settings
from gmmrec.errors import UsageError
from gmmrec.models.lightgcn import LightGCN
from gmmrec.runs.config import nested, read_config, sections_of
from gmmrec.runs.status import read_yaml


@dataclass(frozen=True)
class Fruit:
    """Fruit."""

    count: int = 3
    """How many."""
    colour: Literal["red", "green"] = "red"
    """Its colour."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""
    weight: float = 0.5
    """Kilograms."""
    taste: str | None = None
    """In words."""

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


def refusal(values, *arguments):
    """Return the message of a refusal, or None; anything but a UsageError fails the test."""
    try:
        read(values, *arguments)
    except UsageError as error:
        return str(error)
    return None


def nest(depth):
    values = {}
    for _ in range(depth):
        values = {"a": values}
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fruit": None}, None),
        ({"fruit": {}}, None),
        ({"fruit": {"count": np.int64(4), "sizes": np.array([1, 2]).tolist()}}, None),
        ([1], "settings must be sections such as 'train:', but are [1]"),
        ({"fruit": [1]}, "section 'fruit' must hold settings by name, but is [1]"),
        ({"fruit": 5}, "section 'fruit' must hold settings by name, but is 5"),
        ({"frut": {}}, "unknown setting 'frut'; the nearest known name is 'fruit'"),
        ({None: {}}, "unknown setting 'None'; the nearest known name is 'other'"),
        ({"fruit": {3: 4}}, "unknown setting 'fruit.3'; the nearest known name is 'fruit.taste'"),
        ({"fruit": {"count": None}}, "setting 'fruit.count' has no empty value (null, None); leave it out for its default"),
        ({"fruit": {"sizes": None}}, "setting 'fruit.sizes' has no empty value (null, None); leave it out for its default"),
        ({"fruit": {"weight": float("inf")}}, "setting 'fruit.weight' must be a finite number, but is inf"),
        ({"fruit": {"weight": 10**5000}}, "setting 'fruit.weight' must fit into 64 bits, but is a very large int"),
        ({"fruit": {"count": 2**63}}, "setting 'fruit.count' must fit into 64 bits, but is 9223372036854775808"),
        ({"fruit": {"count": 10**6000}}, "setting 'fruit.count' must fit into 64 bits, but is a very large int"),
        ({"fruit": {"sizes": [2**70]}}, "setting 'fruit.sizes' must fit into 64 bits, but is 1180591620717411303424"),
        ({"fruit": {"taste": {"a": 1}}}, "setting 'fruit.taste' must be one of str, None, but is \"{'a': 1}\""),
        ({"fruit": nest(5000)}, "the settings have more than 8 levels, at 'fruit.a'; leave out what is no setting"),
        ({"fruit": {"count": nest(5000)}}, "the settings have more than 8 levels, at 'fruit.count'; leave out what is no setting"),
        (
            {"fruit": {"sizes": [1] * 20_000}},
            "the settings have more than 10000 values, at 'fruit.sizes'; leave out what is no setting",
        ),
        ({"fruit": {"taste": "x" * 20_000}}, "setting 'fruit.taste' is a text of 20000 characters; the most are 10000"),
    ],
)
def test_whatever_a_file_or_a_program_hands_in_is_read_or_refused_in_one_sentence(values, message):
    assert refusal(values) == message


@pytest.mark.parametrize(
    "value", ["null", "[]", "{}", "{", "[[[", "a: b", "nan", "1e400", "9" * 5000, "\x00", "${x}", "!!python/name:os.system", ""]
)
@pytest.mark.parametrize("flag", ["fruit.count", "fruit.colour", "fruit.sizes", "fruit.weight", "fruit.taste", "fruit"])
def test_no_flag_ends_in_anything_but_a_sentence(flag, value):
    for arguments in ((f"--{flag}", value), (f"--{flag}={value}",)):
        sentence = refusal(None, *arguments) or ""
        assert "\n" not in sentence
        assert len(sentence) < 400


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "by_time"}, "split is a section: give it as a dictionary of settings, not as 'by_time'"),
        ({"train": 5}, "train is a section: give it as a dictionary of settings, not as 5"),
        ({"train": None}, None),
        ({"dim": None}, "setting 'model.dim' has no empty value (null, None); leave it out for its default"),
        ({"dim": "wide"}, "setting 'model.dim' must be int, but is 'wide'"),
        ({"dim": [8]}, "setting 'model.dim' must be int, but is '[8]'"),
        ({"lr": float("nan")}, "setting 'train.lr' must be a finite number, but is nan"),
        ({"dimm": 8}, "unknown setting 'dimm'; the nearest known name is 'dim'"),
        ({"parts": [1]}, "unknown setting 'parts'; the nearest known name is 'path'"),
    ],
)
def test_keyword_settings(settings, message):
    sections = sections_of(LightGCN)
    if message is None:
        assert read_config(LightGCN, nested(settings, sections)).model == LightGCN.config_class()
        return
    with pytest.raises(UsageError, match=re.escape(message)):
        read_config(LightGCN, nested(settings, sections))


@pytest.mark.parametrize("values", [[1], 5, "text", {"parts": [1]}, {"seed": None}, {"monitor": {}}, {"seed": [1]}])
def test_impossible_configs_are_refused(values):
    with pytest.raises(UsageError):
        read_config(LightGCN, values)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "5",
        "train: [1, 2]",
        "[" * 3000,
        "seed: " + "9" * 5000,
        "when: 2020-99-99",
        "? [1]\n: 2",
        "train: &a {b: *a}",
        "\x00",
    ],
    ids=range(10),
)
def test_files_that_hold_no_settings(text, tmp_path):
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(UsageError):
        read_config(LightGCN, read_yaml(tmp_path / "settings.yaml"))


def test_stored_settings_of_another_type_are_refused():
    with pytest.raises(UsageError, match=r"config.yaml has '3' for 'count', but it must be int"):
        from_plain(Fruit, {"count": "3"}, "config.yaml")


def test_checks_take_numbers():
    for value in (None, "3", [1], torch.ones(2)):
        with pytest.raises(UsageError, match="count must be a number, but is "):
            check_positive(count=value)
    check_positive(count=np.float32(0.5))
