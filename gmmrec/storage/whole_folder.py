"""Folders that appear whole: written under another name, listed by a manifest, and renamed."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gmmrec.errors import UsageError
from gmmrec.storage.atomic import flush, flush_folder
from gmmrec.storage.lock import HOLDER, LOCK
from gmmrec.storage.manifest import MANIFEST, Manifest, entry_of, read_manifest, write_manifest


@contextmanager
def whole_folder(folder: Path, kind: str, *, overwrite: bool = False, **about: Any) -> Iterator[Path]:
    """Yield a new folder beside ``folder``; on success, list its files in a manifest and rename it to ``folder``.

    Readers see the old folder, the new one or none, also after a crash.

    Args:
        folder: Folder that does not exist or is empty, unless it is overwritten.
        kind: Kind of the contents, for the manifest.
        overwrite: Replace a folder that holds nothing but listed files of the same kind.
        about: Further description of the contents, for the manifest.

    Raises:
        UsageError: The folder is not empty and not overwritten, or holds files that gmmrec did not write.
    """
    check_replaceable(folder, kind, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".partial-{secrets.token_hex(4)}-{folder.name}") for _ in range(2))
    partial.mkdir()
    try:
        yield partial
        names = sorted(path.name for path in partial.iterdir())
        for name in names:
            flush(partial / name)
        write_manifest(partial, Manifest({"kind": kind, **about}, {name: entry_of(partial, name) for name in names}))
        check_replaceable(folder, kind, overwrite=overwrite)
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(partial, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
    finally:
        for left in (partial, old):
            with suppress(OSError):
                shutil.rmtree(left)
    flush_folder(folder.parent)


def check_replaceable(folder: Path, kind: str, *, overwrite: bool) -> None:
    """Check that a folder may be replaced.

    Raises:
        UsageError: It is a file, is not empty and not overwritten, or holds files that gmmrec did not write.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a new folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not names:
        return
    manifest = read_manifest(folder)
    if manifest is None or manifest.about.get("kind") != kind:
        raise UsageError(f"folder {folder} is not empty; give a new one, so that nothing is overwritten")
    if not overwrite:
        raise UsageError(f"folder {folder} is not empty; give a new one, or replace it with --overwrite")
    others = sorted(names - {MANIFEST, LOCK, HOLDER} - manifest.paths)
    changed = [entry.path for entry in manifest.files.values() if not _as_written(folder, entry.path, entry.sha256)]
    if others or changed:
        which = f"{others[0]} is not of gmmrec" if others else f"{changed[0]} was changed since"
        raise UsageError(f"folder {folder} cannot be replaced: {which}; give a new folder")


def _as_written(folder: Path, name: str, digest: str) -> bool:
    return not (folder / name).exists() or ((folder / name).is_file() and entry_of(folder, name).sha256 == digest)


def check_complete(folder: Path) -> None:
    """Check that a folder with a manifest holds every listed file in its full size, before it is read.

    Raises:
        UsageError: A listed file is missing, or shorter than it was written.
    """
    manifest = read_manifest(folder)
    for entry in () if manifest is None else manifest.files.values():
        path = folder / entry.path
        if not path.is_file():
            raise UsageError(f"{path} is missing, although {MANIFEST} lists it; convert the data again, or remove {MANIFEST}")
        if path.stat().st_size < entry.size:
            size = path.stat().st_size
            raise UsageError(
                f"{path} is damaged: it has {size} bytes, but {entry.size} were written; convert the data again, or remove "
                f"{MANIFEST} if you changed it"
            )
