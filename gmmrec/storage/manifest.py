"""Folders whose files are believed only if their manifest lists them.

A writer puts new files beside the old ones, under names that are free, and replaces ``manifest.json`` last: the only point at which
the folder changes for readers. Files that nobody lists are ignored, and never moved or deleted.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gmmrec.errors import UsageError
from gmmrec.safety import documents
from gmmrec.safety.names import check_no_link
from gmmrec.storage.atomic import digest_of_file, flush_folder, write_json

MANIFEST = "manifest.json"
FORMAT = 1
"""Format of manifests."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. @+-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**24
"""Bytes of the largest manifest that is read."""
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A file as it was written."""

    path: str
    """Name in the folder; the name in the manifest, unless that was taken."""
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of a folder.

    Attributes:
        about: Kind, format and a description of the contents, as plain data.
        files: Files by name.
        own: Names of further files and folders of the same writer, such as the training state, which may change or disappear.
    """

    about: Mapping[str, Any]
    files: Mapping[str, Entry]
    own: tuple[str, ...] = ()

    @property
    def paths(self) -> set[str]:
        """Names of all files of the writer."""
        return {entry.path for entry in self.files.values()} | set(self.own)


@dataclass(frozen=True)
class StoredFolder:
    """A folder as its manifest lists it; every file is checked before it is read.

    Attributes:
        folder: The folder.
        manifest: Its manifest; None for a folder of an earlier version, whose files are read unchecked.
        remedy: Advice for a damaged or missing file.
    """

    folder: Path
    manifest: Manifest | None
    remedy: str = "write the folder again"
    _checked: set[str] = field(default_factory=set, compare=False)

    def has(self, name: str) -> bool:
        """Return whether the folder holds a file."""
        if self.manifest is None:
            return (self.folder / name).is_file()
        return name in self.manifest.files

    def file(self, name: str) -> Path:
        """Return the path of a file after a check of its size and content.

        Raises:
            UsageError: The file is not listed, missing, or not the one that was written.
        """
        if self.manifest is None:
            if not (self.folder / name).is_file():
                raise UsageError(f"{self.folder} has no {name}; {self.remedy}")
            return check_no_link(self.folder / name, "copy the file itself")
        entry = self.manifest.files.get(name)
        if entry is None:
            raise UsageError(f"{self.folder} has no {name}; {self.remedy}")
        path = self.folder / entry.path
        if name not in self._checked:
            if path.is_symlink() or not path.is_file():
                raise UsageError(f"{path} is missing, although {MANIFEST} lists it; {self.remedy}")
            size = path.stat().st_size
            if size != entry.size:
                raise UsageError(f"{path} is damaged: it has {size} bytes, but {entry.size} were written; {self.remedy}")
            if digest_of_file(path) != entry.sha256:
                raise UsageError(f"{path} is damaged: its content is not what was written; {self.remedy}")
            self._checked.add(name)
        return path

    def json(self, name: str, default: Any = None) -> Any:
        """Return the content of a JSON file; ``default`` if the folder does not hold it and a default is given."""
        if default is not None and not self.has(name):
            return default
        return read_json(self.file(name), self.remedy)


def read_json(path: Path, remedy: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        UsageError: The file is missing, or not JSON.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing; {remedy}")
    return documents.read_json(path, remedy)


def read_manifest(folder: Path, remedy: str = "write the folder again") -> Manifest | None:
    """Return the manifest of a folder, or None if it has none.

    Raises:
        UsageError: The manifest is damaged, names paths outside of the folder, or was written by a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"{path} is damaged: it is larger than any manifest; {remedy}")
    found = read_json(path, remedy)
    if not isinstance(found, dict) or "manifest" not in found:
        raise UsageError(f"{path} is not a manifest of gmmrec; give another folder")
    if found["manifest"] != FORMAT:
        raise UsageError(f"{path} has the format {found['manifest']!r}, but this gmmrec reads {FORMAT}; install a newer gmmrec")
    about, listed, own = found.get("about"), found.get("files"), found.get("own", [])
    if not isinstance(about, dict) or not isinstance(listed, dict) or not isinstance(own, list):
        raise UsageError(f"{path} is damaged: it has no list of files; {remedy}")
    files = {name: _entry(path, name, values, remedy) for name, values in listed.items()}
    for name in own:
        _check_name(path, name, remedy)
    return Manifest(about, files, tuple(own))


def _entry(path: Path, name: str, values: Any, remedy: str) -> Entry:
    _check_name(path, name, remedy)
    if not isinstance(values, dict) or set(values) != {"path", "size", "sha256"}:
        raise UsageError(f"{path} is damaged: the entry of {name!r} is not a path, a size and a digest; {remedy}")
    _check_name(path, values["path"], remedy)
    size, digest = values["size"], values["sha256"]
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise UsageError(f"{path} is damaged: size or digest of {name!r} is impossible; {remedy}")
    return Entry(values["path"], size, digest)


def _check_name(path: Path, name: Any, remedy: str) -> None:
    if not isinstance(name, str) or not _PLAIN.fullmatch(name) or name == MANIFEST:
        raise UsageError(f"{path} is damaged: {str(name)[:60]!r} is no name of a file in this folder; {remedy}")


class Staging:
    """New files of a folder that readers do not see before :meth:`commit`. The caller holds the folder's lock.

    Args:
        folder: Folder, made if it is missing.
        remedy: Advice for a damaged manifest.
    """

    def __init__(self, folder: Path, remedy: str = "write the folder again") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.old = read_manifest(folder, remedy)
        for name, entry in ({} if self.old is None else self.old.files).items():
            if entry.path != name and _same_content(folder / name, folder / entry.path):
                delete(folder / name)  # linked by a writer that was killed before it listed the name
        self.names: dict[str, str] = {}
        """Names in the folder by name."""

    def path(self, name: str) -> Path:
        """Return where a file is to be written: under its own name if that is free, otherwise under a new one."""
        if name not in self.names:
            self.names[name] = free_name(self.folder, name)
        return self.folder / self.names[name]

    def commit(self, about: Mapping[str, Any], own: Iterable[str] = ()) -> Manifest:
        """Make the new files the contents of the folder, and delete the files of the old manifest that are no longer listed.

        Args:
            about: Description of the contents.
            own: Names of further files of the writer.
        """
        manifest = Manifest(about, {name: entry_of(self.folder, path) for name, path in self.names.items()}, tuple(own))
        flush_folder(self.folder)
        write_manifest(self.folder, manifest)
        for name in (set() if self.old is None else self.old.paths) - manifest.paths:
            delete(self.folder / name)
        return self._settle(manifest)

    def _settle(self, manifest: Manifest) -> Manifest:
        """Give files the names that the old contents have freed: linked first, listed next, and only then unlinked."""
        moved = {
            name: entry for name, entry in manifest.files.items() if entry.path != name and not os.path.lexists(self.folder / name)
        }
        if not moved:
            return manifest
        for name, entry in moved.items():
            _link(self.folder / entry.path, self.folder / name)
        files = {name: Entry(name, entry.size, entry.sha256) for name, entry in moved.items()}
        settled = Manifest(manifest.about, {**manifest.files, **files}, manifest.own)
        flush_folder(self.folder)
        write_manifest(self.folder, settled)
        for entry in moved.values():
            delete(self.folder / entry.path)
        return settled


def free_name(folder: Path, name: str) -> str:
    """Return a name that is free in a folder: the name itself, or one with a random suffix.

    >>> free_name(Path("no such folder"), "metrics.json")
    'metrics.json'
    """
    free, stem, dot, ending = name, *name.partition(".")
    while os.path.lexists(folder / free):
        free = f"{stem}-{secrets.token_hex(4)}{dot}{ending}"
    return free


def entry_of(folder: Path, name: str) -> Entry:
    """Return the entry of a file."""
    path = folder / name
    return Entry(name, path.stat().st_size, digest_of_file(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a folder."""
    files = {name: asdict(entry) for name, entry in manifest.files.items()}
    write_json(folder / MANIFEST, {"manifest": FORMAT, "about": manifest.about, "files": files, "own": manifest.own}, indent=1)


def delete(path: Path) -> None:
    """Delete a file, or a folder of TensorBoard events, that the writer made; anything that cannot be deleted is left alone."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for events in path.glob("events.out.tfevents.*"):
                events.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def unchanging(folder: Path, read: Callable[[], T], attempts: int = 5) -> T:
    """Return what ``read`` returns, again if the folder was replaced meanwhile.

    Args:
        folder: Folder that is read.
        read: Function that reads it.
        attempts: Number of times that a replaced folder is read again.
    """
    for attempt in range(attempts):
        before = _content(folder / MANIFEST)
        try:
            return read()
        except (UsageError, OSError):
            if attempt + 1 == attempts or _content(folder / MANIFEST) == before:
                raise
    raise AssertionError


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None  # reading a pipe would not end
    except OSError:
        return None


def _same_content(first: Path, second: Path) -> bool:
    if not (first.is_file() and second.is_file()) or first.is_symlink():
        return False
    if first.samefile(second):
        return True
    return first.stat().st_size == second.stat().st_size and digest_of_file(first) == digest_of_file(second)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # of a file system without links
        shutil.copy2(source, target)
