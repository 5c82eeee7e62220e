"""Run folders: readable without the training data, and without executing code from the folder."""

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from gmmrec.data.pack import packed, read_packed
from gmmrec.data.split import Split
from gmmrec.data.tokens import TokenNames
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError
from gmmrec.evaluation.results import Results, file_of
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.store import load_graph, save_graph
from gmmrec.recommender import AnyRecommender
from gmmrec.runs import attributes
from gmmrec.runs.checkpoint import Given, load_model, save_model
from gmmrec.runs.config import AnyRunConfig, stored_config
from gmmrec.runs.consistency import check_consistent, stored_table, stored_tokens, stored_vocabularies, stored_words
from gmmrec.runs.status import ABOUT, CONFIG, GRAPH, MODEL, SPLIT, VOCABULARIES, open_run
from gmmrec.runs.writer import RunWriter
from gmmrec.safety.documents import read_yaml
from gmmrec.safety.names import check_name
from gmmrec.safety.types import conforms
from gmmrec.storage.atomic import write_json, write_tensors, write_text
from gmmrec.storage.manifest import StoredFolder, unchanging
from gmmrec.typing import NodeType

ATTRIBUTES = "attributes.json"
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


def write_run(run: StoredRun, writer: RunWriter) -> Path:
    """Write a run folder and return its path. Readers see the new run when the last file is written, and the old one until then."""
    files: dict[str, Callable[[Path], Any]] = {
        CONFIG: lambda path: write_text(path, yaml.safe_dump(run.config.to_dict(), sort_keys=False)),
        MODEL: lambda path: save_model(run.model, path),
        GRAPH: lambda path: save_graph(run.graph, path),
        SPLIT: lambda path: save_split(run.split, path),
        VOCABULARIES: lambda path: write_json(path, {kind: vocabulary.ids() for kind, vocabulary in run.vocabularies.items()}),
        ATTRIBUTES: lambda path: write_json(path, {kind: attributes.to_plain(frame) for kind, frame in run.attributes.items()}),
        "environment.json": lambda path: write_json(path, environment(), indent=2),
        "metrics.json": lambda path: write_json(path, run.report, indent=2),
    }
    if run.tokens:
        files["tokens.json"] = lambda path: write_json(path, {name: asdict(known) for name, known in run.tokens.items()})
    if run.words:
        files["words.json"] = lambda path: write_json(path, run.words)
    for task, found in run.results.items():
        files[file_of(task)] = found.write
    staging = writer.staging(list(files), run.config.model_name)
    for name, write in files.items():
        write(staging.path(name))
    writer.commit(staging, {"model": run.config.model_name, "main": run.main})
    return writer.folder


def read_run(folder: Path, given: Given = None, parts: Mapping[str, Any] | None = None) -> StoredRun:
    """Read a run folder.

    Args:
        folder: Folder written by :func:`write_run`.
        given: Model classes from outside that the folder may name.
        parts: The caller's parts that the model was built with, by role.

    Raises:
        UsageError: The folder is not a finished run of a known format, a file is damaged, or names a class that was not given.
    """
    return unchanging(folder, lambda: _read(open_run(folder), given, parts))


def _read(stored: StoredFolder, given: Given, parts: Mapping[str, Any] | None) -> StoredRun:
    folder = stored.folder
    model = load_model(stored.file(MODEL), given, parts)
    vocabularies = stored_vocabularies(stored.json(VOCABULARIES), folder / VOCABULARIES)
    main = stored.json(ABOUT).get("main", "ranking") if stored.manifest is None else stored.manifest.about.get("main", "ranking")
    report = stored.json("metrics.json", {})
    if not isinstance(report, dict):
        raise UsageError(f"{folder / 'metrics.json'} is damaged (it must hold figures by name); train the run again")
    run = StoredRun(
        model=model,
        graph=load_graph(stored.file(GRAPH)),
        split=load_split(stored.file(SPLIT)),
        vocabularies=vocabularies,
        attributes=_attributes(stored, vocabularies),
        config=stored_config(read_config_of(stored), model, str(folder / CONFIG)),
        report=report,
        tokens=stored_tokens(stored.json("tokens.json", {}), folder / "tokens.json"),
        words=stored_words(stored.json("words.json", []), folder / "words.json"),
        main=check_name(main, "main evaluation task"),
    )
    check_consistent(folder, model.schema, run.graph, run.split, vocabularies, run.attributes)
    return run


def _attributes(stored: StoredFolder, vocabularies: Mapping[NodeType, Vocabulary]) -> dict[NodeType, pd.DataFrame]:
    if not stored.has(ATTRIBUTES):  # format 2
        names = {node_type: f"{node_type}s.csv" for node_type in vocabularies}
        return {node_type: stored_table(stored.file(name)) for node_type, name in names.items() if stored.has(name)}
    found, where = stored.json(ATTRIBUTES), str(stored.folder / ATTRIBUTES)
    if not conforms(dict[str, dict[str, Any]], found) or not set(found) <= set(vocabularies):
        raise UsageError(f"{where} is damaged (it must hold columns by node type); train the run again")
    return {kind: attributes.from_plain(columns, len(vocabularies[kind]), where) for kind, columns in found.items()}


def read_config_of(stored: StoredFolder) -> dict[str, Any]:
    """Return the settings in a folder, as plain data.

    Raises:
        UsageError: The file is damaged.
    """
    return read_yaml(stored.file(CONFIG))


def report_of(folder: Path) -> dict[str, Any]:
    """Return the report of the finished run in a folder, ``metrics.json``."""
    found: dict[str, Any] = unchanging(folder, lambda: open_run(folder).json("metrics.json"))
    return found


def save_split(split: Split, path: Path) -> None:
    """Write a split to a file."""
    write_tensors(path, {name: column.clone() for name, column in packed(split).items()}, {})  # parts may share memory


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
