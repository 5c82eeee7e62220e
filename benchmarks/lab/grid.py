"""Declared settings: ``configs/DATASET/MODEL.yaml``, what all models of a data set share, and the points of a grid.

Settings are the sections of a run as plain data, without the path of the data set, so that their digest is the same everywhere.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gmmrec.errors import UsageError
from lab.paths import CONFIGS, DATA, located

Settings = dict[str, Any]
SHARED = "dataset.yaml"
"""Sections that all models of a data set share; a model's file adds to them or overrides them. Its ``data.path`` names the data set
if the folder of the settings has another name."""
GRID = "grid"
"""Section of a model's file: searched values by ``section.field``."""


def datasets(configs: Path = CONFIGS) -> list[str]:
    """Return the data sets with settings of recommendation models; those of link prediction belong to ``links.py``."""
    return sorted(path.name for path in configs.iterdir() if not (path / "mkgformer.yaml").is_file())


def models(dataset: str, configs: Path = CONFIGS) -> list[str]:
    """Return the models with settings for a data set."""
    return [path.stem for path in sorted((configs / dataset).glob("*.yaml")) if path.name != SHARED]


def path_of(dataset: str, data: Path = DATA, configs: Path = CONFIGS) -> str:
    """Return the path of the data that the settings of a data set are for."""
    return located(_shared(dataset, configs).get("data", {}).get("path", dataset), data)


def shared(dataset: str, configs: Path = CONFIGS) -> Settings:
    """Return the settings that all models of a data set share."""
    return portable(_shared(dataset, configs))


def shared_as_written(dataset: str, configs: Path = CONFIGS) -> Settings:
    """Return the shared settings of a data set, with the name of the data if it differs from that of the settings."""
    return _shared(dataset, configs)


def points(dataset: str, model: str, configs: Path = CONFIGS) -> list[Settings]:
    """Return all points of a model's declared grid; one point without a grid, none without a file."""
    path = configs / dataset / f"{model}.yaml"
    if not path.is_file():
        return []
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    grid = values.pop(GRID, {})
    base = shared(dataset, configs)
    for section, value in values.items():
        base[section] = {**base.get(section, {}), **value} if isinstance(value, dict) else value
    return [merged(base, dict(zip(grid, choice, strict=True))) for choice in itertools.product(*grid.values())]


def first_point(dataset: str, model: str, configs: Path = CONFIGS) -> Settings:
    """Return the first point of a model's grid, for benchmarks without a search.

    Raises:
        UsageError: The model has no settings for the data set.
    """
    found = points(dataset, model, configs)
    if not found:
        raise UsageError(
            f"expected the settings of {model} in {configs / dataset / f'{model}.yaml'}, but there is no such file; add it"
        )
    return found[0]


def merged(values: Mapping[str, Any], point: Mapping[str, Any]) -> Settings:
    """Return settings updated with the ``section.field`` values of a point.

    >>> merged({"train": {"lr": 1}}, {"model.dim": 8})
    {'train': {'lr': 1}, 'model': {'dim': 8}}
    """
    result = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for name, value in point.items():
        section, field = name.split(".")
        result.setdefault(section, {})[field] = value
    return result


def portable(settings: Mapping[str, Any]) -> Settings:
    """Return settings without the path of the data."""
    result = {name: dict(section) if isinstance(section, dict) else section for name, section in settings.items()}
    if isinstance(result.get("data"), dict):
        result["data"].pop("path", None)
        if not result["data"]:
            del result["data"]
    return result


def digest(settings: Mapping[str, Any]) -> str:
    """Return a short hash of settings, independent of the path of the data and the order of sections.

    >>> digest({"model": {"dim": 8}, "data": {"path": "a"}}) == digest({"data": {"path": "b"}, "model": {"dim": 8}})
    True
    >>> digest({"model": {"dim": 8}}) == digest({"model": {"dim": 16}})
    False
    """
    content: Settings = {"data": {}, **portable(settings)}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def _shared(dataset: str, configs: Path) -> Settings:
    file = configs / dataset / SHARED
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {}
