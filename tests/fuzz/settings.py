"""Cases of settings: YAML files, flags, and keywords of ``fit``, for every model."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

import gmmrec
from gmmrec.config import to_plain
from gmmrec.errors import UsageError
from gmmrec.models import MODELS
from gmmrec.runs.config import sections_of
from tests.fuzz.case import Case
from tests.fuzz.values import cells, made, odd_objects, plain_values, scalars
from tests.fuzz.verdict import Refused, command

NOWHERE = "nowhere/at all"
READ = "there is no file, folder or bundled data set"
"""Beginning of the refusal that follows accepted settings."""
TEXTS = (
    *("", "# nothing", "---", "...", "null", "[]", "{}", "1", "text", "- a", "train:", "train: null", "train: []", "train: 1"),
    *("train: {lr: }", "train: {lr: .nan}", "train:\n  lr: 0.1\n  lr: 0.2", "train:\n\tlr: 1", "? a\n: b", "? [a]\n: b", "1: 2"),
    *("!!python/object/apply:os.system ['true']", "!!binary aGk=", "train: !!set {a}", "a: *b", "a: &b [*b]", "train: &t {lr: *t}"),
    *("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", "train: 2020-01-01", "train: {epochs: 0o7}", "train: {lr: 1e-3}"),
    *(
        "train: {epochs: 1_000}",
        "{" * 500,
        "[" * 500,
        "a: " * 100,
        "\x00",
        "\ufeff",
        "train: {lr: '0.1'}",
        "model: {dim: 8}\nmodel: 3",
    ),
    *("train.lr: 0.1", "seed: abc", "seed: 1.5", "monitor: []", "init_from: {}", "parts: 3", "parts: {a: b}", "model_name: []"),
    *(
        "model_name: os:system",
        "data: {path: [a]}",
        "data: {modalities: [[image]]}",
        "eval: {ks: []}",
        "eval: {ks: [0]}",
        "eval: {ks: x}",
    ),
    *(
        "split: {valid: .inf}",
        "split: {strategy: null}",
        "graph: {knn: 1e400}",
        "run: {seed: 3}",
        "run: null",
        "<<: {a: 1}",
        "<<: 3",
    ),
)
"""Settings files that are odd as a whole."""


@cache
def settings_of(name: str) -> tuple[tuple[str, str], ...]:
    """Return section and field of every setting of a model."""
    return tuple((section, each.name) for section, config in sections_of(MODELS[name]).items() for each in fields(config))


@cache
def default_of(name: str, section: str, field: str) -> Any:
    """Return the default of a setting as plain data."""
    return to_plain(getattr(sections_of(MODELS[name])[section](), field))


models = st.sampled_from(sorted(MODELS))


@st.composite
def some_settings(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[str, list[tuple[str, str, Any]]]:
    """A model, and settings of it with section, field and value."""
    model = draw(models)
    found = []
    for _ in range(draw(st.integers(1, 3))):
        section, field = draw(st.sampled_from(settings_of(model)))
        if (section, field) != ("data", "path"):
            odd = draw(st.integers(0, 19))  # 0 for an unknown name, 12 and more for a value that is surely right
            value = draw(values) if odd < 12 else default_of(model, section, field)
            found.append((section, draw(cells) if odd == 0 else field, value))
    return model, found


@st.composite
def file_cases(draw: st.DrawFn) -> Case:
    """Settings in a YAML file."""
    model, found = draw(some_settings(plain_values))
    values: dict[Any, Any] = {}
    for section, field, value in found:
        if section == "run":
            values[field] = value
        else:
            values.setdefault(section, {})[field] = value
    kind = draw(st.integers(0, 9))
    if kind == 0:
        values[draw(scalars.filter(lambda key: not isinstance(key, float)))] = draw(plain_values)
    elif kind == 1:
        values[draw(st.sampled_from(("model", "data", "split", "graph", "train", "eval", "run")))] = draw(plain_values)
    text = draw(st.sampled_from(TEXTS)) if kind < 4 and kind > 1 else yaml.safe_dump(values)
    return Case(
        {"s.yaml": text.encode("utf-8", "surrogatepass")}, {"arguments": ["train", "-c", "s.yaml", "-m", model, "-d", NOWHERE]}
    )


@st.composite
def flag_cases(draw: st.DrawFn) -> Case:
    """Settings as flags."""
    model, found = draw(some_settings(st.one_of(scalars.map(str), cells, plain_values.map(str))))
    arguments = ["train", "-m", model, "-d", NOWHERE]
    for section, field, plain in found:
        value = "null" if plain is None else str(plain)
        flag = f"--{field}" if section == "run" else f"--{section}.{field}"
        form = draw(st.integers(0, 9))
        if form == 0:
            arguments += [flag]
        elif form == 1:
            arguments += [f"{flag}+={value}"]
        else:
            arguments += [f"{flag}={value}"] if form < 6 else [flag, value]
    return Case({}, {"arguments": [argument for argument in arguments if "\x00" not in argument]})


@st.composite
def keyword_cases(draw: st.DrawFn) -> Case:
    """Settings as keywords of ``fit``."""
    model, found = draw(some_settings(st.one_of(plain_values, odd_objects)))
    settings: dict[str, Any] = {}
    for section, field, value in found:
        if draw(st.booleans()) or section == "run":
            settings[field] = value
        elif isinstance(settings.get(section, {}), Mapping):
            settings[section] = {**settings.get(section, {}), field: value}
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from(("model", "data", "split", "graph", "train", "eval", "run", "parts", "classes", "out")))
        settings[name] = draw(st.one_of(plain_values, odd_objects))
    return Case(
        {}, {"model": model, "settings": {name: value for name, value in settings.items() if name not in ("dataset", "path")}}
    )


def train(case: Case, folder: Path) -> None:
    """Train on data that do not exist: accepted settings are those after which only the data are missing."""
    try:
        command(list(case.spec["arguments"]))
    except Refused as error:
        if READ not in str(error):
            raise


def fit(case: Case, folder: Path) -> None:
    """Call ``fit`` likewise."""
    try:
        settings = {"model": case.spec["model"], **made(dict(case.spec["settings"]))}
        gmmrec.fit(NOWHERE, **settings)
    except UsageError as error:
        if READ not in str(error):
            raise
