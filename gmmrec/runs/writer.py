"""Writer of a run folder: one at a time, with one point at which the folder changes for readers."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

import gmmrec
from gmmrec.errors import UsageError
from gmmrec.runs.config import RunConfig
from gmmrec.runs.identity import Identity, differences, digest_of
from gmmrec.runs.status import (
    ABOUT,
    CONFIG,
    FORMAT,
    REMEDY,
    Status,
    old_manifest,
    read_status,
    resume_remedy,
    settings_to_resume,
    state_of,
)
from gmmrec.storage.atomic import remove_partial_files, write_text
from gmmrec.storage.lock import holder, is_locked, locked, remove_if_empty
from gmmrec.storage.manifest import MANIFEST, Staging, delete, read_manifest, write_manifest
from gmmrec.training.files import STATE_FILE, TrainingFiles

HISTORY, BOARD = "history.csv", "tensorboard"


class RunWriter:
    """A run folder being written, whose lock is held; made by :func:`writing`.

    Args:
        folder: The folder.
        status: Status of a run to resume; None for a new run.
    """

    def __init__(self, folder: Path, status: Status | None) -> None:
        self.folder, self.status = folder, status
        self.resumes = status is not None
        about = folder / ABOUT
        self._before = about.read_bytes() if about.is_file() else None

    def begin(self, config: RunConfig, identity: Identity, data: str | None, environment: Mapping[str, Any]) -> TrainingFiles:
        """Write ``config.yaml`` and ``run.json`` before a training, and return the files that it writes.

        Args:
            config: All settings.
            identity: Everything that the numbers depend on.
            data: Absolute path or bundled name of the data, if they were read from one.
            environment: Number of threads and device.

        Raises:
            UsageError: The run to resume is another one; every difference is named.
        """
        if self.status is None:
            self.status = Status(secrets.token_hex(8), config.model_name)
        elif found := differences(self.status.identity, identity):
            raise UsageError(
                f"{self.folder} holds another run, which cannot be resumed: {'; '.join(found)}; give what it was begun with, "
                "or begin anew with --overwrite"
            )
        status = self.status
        status.status, status.identity, status.data, status.environment = "training", identity, data, dict(environment)
        status.format, status.gmmrec = FORMAT, gmmrec.__version__
        finished = read_manifest(self.folder, REMEDY)
        if finished is not None:  # its files stay until the new ones are listed
            taken = {entry.path for entry in finished.files.values()}
            status.files = {name: path for name, path in status.files.items() if path not in taken}
        state, history, board = (status.path(self.folder, name) for name in (STATE_FILE, HISTORY, BOARD))
        files = TrainingFiles(state, history, board, f"{status.run} {digest_of(identity)}")
        config_path = status.path(self.folder, CONFIG)
        status.write(self.folder)  # first, so that it knows all files that may be left behind
        write_text(config_path, yaml.safe_dump(config.to_dict(), sort_keys=False))
        return files

    def staging(self, names: list[str], model: str) -> Staging:
        """Return where results are to be written, after a note of their names in ``run.json``.

        Args:
            names: Names of all results.
            model: Name of the model.
        """
        status = self.status = self.status or Status(secrets.token_hex(8), model, gmmrec=gmmrec.__version__)
        staging = Staging(self.folder, REMEDY)
        listed = set() if staging.old is None else staging.old.paths
        for name in (HISTORY, CONFIG):  # already written by a training
            if name in status.files and status.files[name] not in listed and (self.folder / status.files[name]).is_file():
                staging.names[name] = status.files[name]
        for name in names:
            if (left := status.files.get(name)) is not None and left not in {*listed, *staging.names.values()}:
                delete(self.folder / left)  # of a saving that was interrupted
        status.files |= {name: staging.path(name).name for name in names}
        status.status = "saving"
        status.write(self.folder)
        return staging

    def commit(self, staging: Staging, contents: Mapping[str, Any]) -> None:
        """Make the results the contents of the folder.

        Args:
            staging: Where they were written.
            contents: Description of the run, for the manifest.
        """
        status = self.status
        assert status is not None
        state, board = status.files.get(STATE_FILE), status.files.get(BOARD)
        kept = {name: path for name, path in ((STATE_FILE, state), (BOARD, board)) if path and (self.folder / path).exists()}
        about = {"kind": "run", "format": FORMAT, "gmmrec": gmmrec.__version__, "run": status.run, **contents}
        own = (ABOUT, *kept.values())
        settled = staging.commit({**about, "identity": digest_of(status.identity) if status.identity else None}, own)
        for name in (STATE_FILE, BOARD):  # what an older run has freed
            if name in kept and kept[name] != name and not os.path.lexists(self.folder / name):
                os.rename(self.folder / kept[name], self.folder / name)
                kept[name] = name
        status.files = {**{name: settled.files[name].path for name in (CONFIG, HISTORY) if name in settled.files}, **kept}
        status.status = "finished"
        status.write(self.folder)

    def abandon(self) -> None:
        """Leave the folder as it was found if a new run ends before anything of it is worth keeping."""
        status = self.status
        if self.resumes or status is None or status.path(self.folder, STATE_FILE).is_file():
            return
        finished = read_manifest(self.folder, REMEDY)
        listed = {ABOUT} if finished is None else {ABOUT, *finished.paths}
        for name in set(status.files.values()) - listed:
            delete(self.folder / name)
        if self._before is not None:
            (self.folder / ABOUT).write_bytes(self._before)
        else:
            delete(self.folder / ABOUT)


@contextmanager
def writing(folder: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[RunWriter]:
    """Hold a run folder for writing.

    Args:
        folder: Folder, made if it is missing.
        resume: Go on with the run in it.
        overwrite: Begin a new run, whose results take the place of the run in it when they are complete.

    Raises:
        UsageError: The folder holds a run and neither is asked for, holds none to resume, or is being written by another process.
    """
    check_writable(folder, resume=resume, overwrite=overwrite)
    is_new = not folder.exists()
    with locked(folder):
        remove_partial_files(folder)
        check_writable(folder, resume=resume, overwrite=overwrite, is_mine=True)  # again, now that nobody else writes
        state, status = state_of(folder), read_status(folder)
        if resume:
            yield RunWriter(folder, status)
            return
        if state != "absent":
            _make_room(folder, status)
        writer = RunWriter(folder, None)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            if is_new:
                remove_if_empty(folder)
            raise


def check_writable(folder: Path, *, resume: bool = False, overwrite: bool = False, is_mine: bool = False) -> None:
    """Check that a run may be written to a folder, as :func:`writing` does; nothing is made.

    Args:
        folder: The folder.
        resume: Go on with the run in it.
        overwrite: Replace the run in it.
        is_mine: Whether the caller holds its lock.

    Raises:
        UsageError: It holds a run and neither is asked for, holds none to resume, or is being written by another process.
    """
    if resume and overwrite:
        raise UsageError("a run is either resumed or overwritten; give one of --resume and --overwrite")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder for the run")
    if not is_mine and folder.is_dir() and is_locked(folder):
        raise UsageError(f"{folder} is being written by {holder(folder)}; wait for it, or give another folder")
    if resume:
        settings_to_resume(folder)  # refuses what cannot be resumed
    state = state_of(folder) if folder.is_dir() else "absent"
    status = read_status(folder) if folder.is_dir() else None
    if resume and status is not None and state == "finished":
        if not (folder / status.files.get(STATE_FILE, STATE_FILE)).is_file():
            raise UsageError(f"the run in {folder} is finished, and its training state is gone; train it again with --overwrite")
    elif state != "absent" and not overwrite and not resume:
        what = "a finished run" if state == "finished" else "an unfinished run"
        model = "" if status is None else f" of {status.model}"
        go_on = "" if status is None or not status.identity else f"{resume_remedy(folder, status)}, "
        raise UsageError(f"{folder} holds {what}{model}; {go_on}replace it with --overwrite, or give another folder")


def _make_room(folder: Path, status: Status | None) -> None:
    """Delete what an unfinished run has left, and list the files of a finished run of an earlier version."""
    manifest = read_manifest(folder, REMEDY)
    if manifest is None and (adopted := old_manifest(folder)) is not None:
        write_manifest(folder, adopted)
        manifest = adopted
    listed = {MANIFEST} if manifest is None else {MANIFEST, *manifest.paths}
    for name in set() if status is None else set(status.files.values()) - listed:
        delete(folder / name)


def current_environment(device: torch.device) -> dict[str, Any]:
    """Return what may change the last bits of a run: the number of threads and the device."""
    return {"threads": torch.get_num_threads(), "device": device.type}


def environment_changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the differences of two environments as a phrase, empty if there are none.

    >>> environment_changes({"threads": 1, "device": "cpu"}, {"threads": 2, "device": "cpu"})
    'threads were 1 and are 2'
    """
    verbs = {"threads": ("were", "are"), "device": ("was", "is")}
    changed = [name for name in verbs if name in stored and stored[name] != now.get(name)]
    return ", ".join(f"{name} {verbs[name][0]} {stored[name]} and {verbs[name][1]} {now.get(name)}" for name in changed)
