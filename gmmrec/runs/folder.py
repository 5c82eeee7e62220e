"""Run folders: readable without the training data, and without executing code from the folder."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

import gmmrec
from gmmrec.data.pack import packed, read_packed
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.results import Results
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.recommender import AnyRecommender
from gmmrec.runs.checkpoint import Given, load_model, save_model
from gmmrec.runs.config import AnyRunConfig, stored_config
from gmmrec.runs.consistency import check_consistent, stored_table, stored_tokens, stored_vocabularies, stored_words
from gmmrec.safety.documents import read_json, read_yaml
from gmmrec.safety.names import check_name, check_no_link
from gmmrec.typing import NodeType

FORMAT = 2
"""Format number of run folders."""
ABOUT, CONFIG, MODEL, GRAPH, SPLIT, VOCABULARIES = (
    "run.json",
    "config.yaml",
    "model.safetensors",
    "graph.safetensors",
    "split.safetensors",
    "vocabularies.json",
)
"""Required files of a run folder."""
PACKAGES = ("gmmrec", "torch", "torch-geometric", "numpy", "scipy", "pandas", "lightning-fabric")
"""Packages whose versions are stored with a run."""


@dataclass(frozen=True)
class StoredRun:
    """Contents of a run folder; see :class:`gmmrec.runs.run.Run`."""

    model: AnyRecommender
    graph: MultimodalGraph
    split: Split
    vocabularies: Mapping[NodeType, Vocabulary]
    attributes: Mapping[NodeType, pd.DataFrame]
    config: AnyRunConfig
    report: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, TokenNames] = field(default_factory=dict)
    words: Sequence[str] = ()
    main: str = "ranking"
    results: Mapping[str, Results] = field(default_factory=dict)
    """Test results by evaluation task; written with the folder, and read by comparisons."""


def write_run(run: StoredRun, folder: Path) -> Path:
    """Write a run folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"format": FORMAT, "gmmrec": gmmrec.__version__, "model": run.config.model_name, "main": run.main}
    _write_json(folder / ABOUT, about)
    (folder / CONFIG).write_text(yaml.safe_dump(run.config.to_dict(), sort_keys=False), encoding="utf-8")
    save_model(run.model, folder / MODEL)
    save_graph(run.graph, folder / GRAPH)
    save_split(run.split, folder / SPLIT)
    _write_json(folder / VOCABULARIES, {node_type: vocabulary.ids() for node_type, vocabulary in run.vocabularies.items()})
    if run.tokens:
        _write_json(folder / "tokens.json", {name: asdict(known) for name, known in run.tokens.items()})
    if run.words:
        _write_json(folder / "words.json", run.words)
    for node_type, frame in run.attributes.items():
        if len(frame.columns):  # some have ids only
            frame.to_csv(folder / f"{node_type}s.csv", index=False)
    _write_json(folder / "environment.json", environment(), indent=2)
    _write_json(folder / "metrics.json", run.report, indent=2)
    for task, found in run.results.items():
        found.save(folder, task)
    return folder


def read_run(folder: Path, given: Given = None, parts: Mapping[str, Any] | None = None) -> StoredRun:
    """Read a run folder.

    Args:
        folder: Folder written by :func:`write_run`.
        given: Model classes from outside that the folder may name.
        parts: The caller's parts that the model was built with, by role.

    Raises:
        UsageError: The folder is not a finished run of this format, or names a class that was not given.
    """
    about = read_about(folder)
    for path in folder.iterdir():
        check_no_link(path, "copy the file itself")
    missing = [name for name in (CONFIG, MODEL, GRAPH, SPLIT, VOCABULARIES) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} is not a finished run: {missing[0]} is missing; train it again")
    vocabularies = stored_vocabularies(_read_json(folder / VOCABULARIES), folder / VOCABULARIES)
    ids = {node_type: vocabulary.ids() for node_type, vocabulary in vocabularies.items()}
    model = load_model(folder / MODEL, given, parts)
    config = read_yaml(folder / CONFIG)
    known = stored_tokens(_read_json(folder / "tokens.json", {}), folder / "tokens.json")
    stored = StoredRun(
        model=model,
        graph=load_graph(folder / GRAPH),
        split=load_split(folder / SPLIT),
        vocabularies=vocabularies,
        attributes={
            node_type: stored_table(folder / f"{node_type}s.csv") for node_type in ids if (folder / f"{node_type}s.csv").is_file()
        },
        config=stored_config(config, model, str(folder / CONFIG)),
        report=_read_json(folder / "metrics.json", {}),
        tokens=known,
        words=stored_words(_read_json(folder / "words.json", []), folder / "words.json"),
        main=check_name(about.get("main", "ranking"), "main evaluation task"),
    )
    check_consistent(folder, model.schema, stored.graph, stored.split, vocabularies, stored.attributes)
    return stored


def read_about(folder: Path) -> dict[str, Any]:
    """Return the contents of ``run.json`` after a check of the format.

    Raises:
        UsageError: The folder is no run folder, or has another format.
    """
    if not (folder / ABOUT).is_file():
        if (folder / CONFIG).is_file() and (folder / MODEL).is_file():
            raise UsageError(f"{folder} was written before run folders had a format number; train the run again with this gmmrec")
        raise UsageError(f"{folder} is not a finished run: {ABOUT} is missing; make one with 'gmmrec train --out {folder}'")
    about: dict[str, Any] = _read_json(folder / ABOUT)
    if not isinstance(about, dict):
        raise UsageError(f"{folder / ABOUT} is damaged; train the run again")
    if about.get("format") != FORMAT:
        raise UsageError(
            f"{folder} has the format {about.get('format')}, but this gmmrec ({gmmrec.__version__}) reads format {FORMAT}; "
            "read it with the gmmrec that wrote it, or train the run again"
        )
    return about


def save_split(split: Split, path: Path) -> None:
    """Write a split to a file."""
    save_file({name: column.clone() for name, column in packed(split).items()}, path)  # parts may share memory


def load_split(path: Path) -> Split:
    """Read a split written by :func:`save_split`."""
    return read_packed(Split, path, "a saved split", "train the run again")


def environment() -> dict[str, Any]:
    """Return the environment of a run: versions, threads, device."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _write_json(path: Path, value: Any, indent: int | None = None) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")


def _read_json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.is_file():
        return default
    return read_json(path, "train the run again", None if default is None else type(default))
