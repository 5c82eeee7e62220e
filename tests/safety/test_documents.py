"""JSON and YAML of strangers: refused in one sentence, and before they take time or memory."""

import json
import time

import pytest

from gmmrec.errors import DataError, UsageError
from gmmrec.safety.documents import SETTINGS_BYTES, parse_json, read_json, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit"),
        ('{"a": 1', "Expecting ',' delimiter"),
        ("", "Expecting value"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[1, 2]", r"expected an object, found '\[1, 2\]'"),
    ],
)
def test_hostile_json_is_refused(text, message):
    with pytest.raises(DataError, match=f"^run.json is damaged .*{message}.*; train the run again$") as caught:
        parse_json(text, "run.json", "train the run again", dict)
    assert "\n" not in str(caught.value)


def test_json_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DataError, match=r"byte 7 is not UTF-8\); export it again"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_json(tmp_path / "b.json")


def test_ordinary_json_is_read(tmp_path):
    value = {"a": [1, 2.5, "ü", None], "emoji": "\N{GRINNING FACE}"}
    (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")  # the emoji as a pair of escapes
    assert read_json(tmp_path / "a.json", kind=dict) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "repeats its values by aliases more than 100,000 times"),
        (MERGES, "repeats its values by aliases more than 100,000 times"),
        ("a: &a [*a]\n", "repeats its values by aliases"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("a: " + "1" * 5000, "Exceeds the limit"),
        ("a: 2020-99-99\n", "not valid YAML: month must be in"),
        ("a: !!python/object/apply:os.system ['echo evil']\n", "could not determine a constructor"),
        ("? [a]\n: 1\n", "unhashable"),
        ("a: \x00\n", "special characters are not allowed"),
        ("- a\n", "must hold sections such as 'train:', but holds a list"),
        ("x" * (SETTINGS_BYTES + 1), "1 MiB at most are read"),
    ],
    ids=["lists", "merges", "itself", "deep", "digits", "date", "python", "key", "zero", "list", "large"],
)
def test_hostile_yaml_is_refused_at_once(tmp_path, text, message):
    path, begun = tmp_path / "config.yaml", time.perf_counter()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - begun < 20


def test_yaml_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_ordinary_yaml_is_read_with_its_anchors(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: &one {dim: 8}\ntwo:\n  <<: *one\n  lr: 0.1\n", encoding="utf-8")
    assert read_yaml(path) == {"one": {"dim": 8}, "two": {"dim": 8, "lr": 0.1}}
    path.write_text("", encoding="utf-8")
    assert read_yaml(path) == {}
