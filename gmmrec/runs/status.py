"""State of a run folder. ``run.json`` describes the latest training, the manifest lists the finished run."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from gmmrec.errors import UsageError
from gmmrec.safety.documents import read_yaml
from gmmrec.safety.names import check_name, check_no_link
from gmmrec.safety.types import check_fields
from gmmrec.storage.atomic import write_json
from gmmrec.storage.lock import holder, is_locked
from gmmrec.storage.manifest import Manifest, StoredFolder, entry_of, free_name, read_json, read_manifest

logger = logging.getLogger(__name__)

FORMAT = 3
"""Format of run folders."""
READABLE = (2, FORMAT)
"""Formats that are read; format 2 has no manifest."""
ABOUT, CONFIG, MODEL, GRAPH, SPLIT, VOCABULARIES = (
    "run.json",
    "config.yaml",
    "model.safetensors",
    "graph.safetensors",
    "split.safetensors",
    "vocabularies.json",
)
"""Files of every run folder."""
REQUIRED = (CONFIG, MODEL, GRAPH, SPLIT, VOCABULARIES)
REMEDY = "train the run again"


@dataclass
class Status:
    """Contents of ``run.json``.

    Attributes:
        run: Id of the run, drawn at random.
        model: Name of the model.
        status: ``"training"``, ``"saving"`` or ``"finished"``.
        identity: Everything that the numbers depend on; see :mod:`gmmrec.runs.identity`.
        data: Absolute path or bundled name of the data; None if they came as an object.
        environment: Number of threads and device.
        files: Names in the folder of the files that training writes, by their usual names.
        format: Format of the folder.
        gmmrec: Version that wrote it.
    """

    run: str
    model: str
    status: Literal["training", "saving", "finished"] = "training"
    identity: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    gmmrec: str = ""

    def write(self, folder: Path) -> None:
        """Write ``run.json``."""
        write_json(folder / ABOUT, asdict(self), indent=1)

    def path(self, folder: Path, name: str) -> Path:
        """Return where a file of the training lies; a name that is free is chosen at first use."""
        if name not in self.files:
            self.files[name] = free_name(folder, name)
        return folder / self.files[name]


def read_status(folder: Path) -> Status | None:
    """Return the contents of ``run.json``; None if there is no such file, or it is of format 2.

    Raises:
        UsageError: The file is damaged, is not one of gmmrec, or was written by a newer version.
    """
    found = _about(folder)
    if found is None or found.get("format") == 2:
        return None
    known = {each.name for each in fields(Status)}
    mappings = all(isinstance(found.get(name, {}), dict) for name in ("identity", "environment", "files"))
    if not {"run", "model", "status"} <= set(found) or not mappings:
        raise UsageError(f"{folder / ABOUT} is damaged: it has no run, model and status; {REMEDY}")
    try:
        for name in found.get("files", {}).values():
            check_no_link(folder / check_name(name, "file of a training"), "copy the file itself")
    except UsageError as error:
        raise UsageError(f"{folder / ABOUT} is damaged: its files are not in this folder ({error}); {REMEDY}") from None
    values = {name: value for name, value in found.items() if name in known}
    check_fields(Status, values, str(folder / ABOUT))
    return Status(**values)


def open_run(folder: Path) -> StoredFolder:
    """Return the finished run in a folder.

    Raises:
        UsageError: The folder is missing, holds no run or an unfinished one, or cannot be read by this version.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a finished run: there is no such folder; make one with 'gmmrec train --out {folder}'")
    manifest = read_manifest(folder, REMEDY)
    if manifest is not None:
        if manifest.about.get("kind") != "run":
            raise UsageError(f"{folder} holds {manifest.about.get('kind')!r}, not a run; give the folder of a run")
        _check_format(folder, manifest.about.get("format"))
        _warn_of_newer(folder, manifest)
        return StoredFolder(folder, manifest, REMEDY)
    about = _about(folder)
    if about is None:
        if (folder / CONFIG).is_file() and (folder / MODEL).is_file():
            raise UsageError(f"{folder} was written before run folders had a format number; train the run again with this gmmrec")
        raise UsageError(f"{folder} is not a finished run: {ABOUT} is missing; make one with 'gmmrec train --out {folder}'")
    if about["format"] == 2:
        missing = [name for name in REQUIRED if not (folder / name).is_file()]
        if missing:
            raise UsageError(f"{folder} is not a finished run: {missing[0]} is missing; {REMEDY}")
        return StoredFolder(folder, None, REMEDY)
    raise UsageError(unfinished(folder))


def _warn_of_newer(folder: Path, manifest: Manifest) -> None:
    try:
        status = read_status(folder)
    except UsageError:  # the finished run does not need it
        return
    if status is not None and status.status != "finished" and status.run != manifest.about.get("run"):
        logger.warning("%s answers with its finished run; a newer run of %s in it is not finished", folder, status.model)


def unfinished(folder: Path) -> str:
    """Return a sentence on an unfinished run, with the remedy."""
    status = read_status(folder)
    if is_locked(folder):
        return f"the run in {folder} is not finished: it is being written by {holder(folder)}; wait for it"
    if status is None or not status.identity:
        model = "run" if status is None else status.model
        return f"the {model} in {folder} was not saved completely; make it again with --overwrite"
    return f"the run of {status.model} in {folder} is not finished; {resume_remedy(folder, status)}"


def resume_remedy(folder: Path, status: Status) -> str:
    """Return how a run is resumed: by a command where model and data can be found again, otherwise in Python."""
    outside = ":" in status.model
    if status.data is None:
        model = f'"{status.model}"' if not outside else status.model.rpartition(":")[2]
        return f'resume it in Python with gmmrec.fit(data, {model}, out="{folder}", resume=True)'
    return f"resume it with 'gmmrec train --resume {folder}{f' -m {status.model}' if outside else ''}'"


def state_of(folder: Path) -> Literal["absent", "unfinished", "finished"]:
    """Return the state of a run folder.

    >>> state_of(Path("no such folder"))
    'absent'
    """
    manifest = read_manifest(folder, REMEDY)
    if manifest is not None:
        status = read_status(folder)
        if status is None or status.status == "finished":
            return "finished"
        is_listed = status.status == "saving" and status.run == manifest.about.get("run")
        return "finished" if is_listed else "unfinished"
    about = _about(folder) if folder.is_dir() else None
    if about is None:
        return "absent"
    if about["format"] == 2:
        return "finished" if all((folder / name).is_file() for name in REQUIRED) else "absent"
    return "unfinished"


def old_manifest(folder: Path) -> Manifest | None:
    """Return a manifest of a finished run of format 2, so that a new run may take its place; None if there is none."""
    about = _about(folder)
    if about is None or about["format"] != 2:
        return None
    optional = ("tokens.json", "words.json", "items.csv", "users.csv", "environment.json", "metrics.json")
    results = sorted(path.name for path in folder.glob("results_*.safetensors"))
    names = [name for name in (*REQUIRED, *optional, *results) if (folder / name).is_file()]
    own = [name for name in ("history.csv", "training_state.safetensors", "tensorboard") if (folder / name).exists()]
    contents = {"kind": "run", "format": 2, "model": about.get("model"), "main": about.get("main", "ranking")}
    return Manifest(contents, {name: entry_of(folder, name) for name in names}, tuple(own))


def _about(folder: Path) -> dict[str, Any] | None:
    path = folder / ABOUT
    if not path.is_file():
        return None
    found = read_json(path, REMEDY)
    if not isinstance(found, dict) or "format" not in found:
        raise UsageError(f"{path} was not written by gmmrec; give another folder")
    _check_format(folder, found["format"])
    return found


def _check_format(folder: Path, found: Any) -> None:
    from gmmrec import __version__

    if found not in READABLE:
        raise UsageError(
            f"{folder} has the format {found}, but this gmmrec ({__version__}) reads format {' and '.join(map(str, READABLE))}; "
            "read it with the gmmrec that wrote it, or train the run again"
        )


def settings_to_resume(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in a folder that is to be resumed, finished or not.

    Raises:
        UsageError: There is no run, or one that cannot be resumed.
    """
    status = read_status(folder) if folder.is_dir() else None
    if status is None and state_of(folder) == "absent":
        raise UsageError(f"there is no run in {folder} to resume; begin one without --resume")
    if status is None:
        raise UsageError(f"{folder} holds a run of an earlier version, which cannot be resumed; train it again with --overwrite")
    if not status.identity:
        raise UsageError(f"{folder} holds a {status.model}, which is made at once and not resumed; make it again with --overwrite")
    path = folder / status.files.get(CONFIG, CONFIG)
    if not path.is_file():
        raise UsageError(f"the run in {folder} was stopped before it began; begin it again with --overwrite")
    return read_yaml(path)
