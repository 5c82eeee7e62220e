"""Files written whole or not at all."""

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_PARTIAL = re.compile(r"\.partial-[0-9a-f]{8}-")
_NUMBER = re.compile(r"os error (\d+)")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success, flush that file to disk and rename it to ``path``.

    Readers see the old file or the new one, also after a crash. Permissions follow the umask.

    Raises:
        OSError: The file cannot be written; nothing is left behind, and an existing file is kept.
    """
    partial = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")  # np.savez looks at the ending
    try:
        partial.touch()
        mode = stat.S_IMODE(partial.stat().st_mode)
        with system_errors(path):
            yield partial
        flush(partial)
        if stat.S_IMODE(partial.stat().st_mode) != mode:
            partial.chmod(mode)
        os.replace(partial, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(partial):
            error.filename = str(path)  # the name that people know
        raise
    finally:
        with suppress(OSError):  # of a folder that is gone or fixed
            partial.unlink(missing_ok=True)
    flush_folder(path.parent)


def remove_partial_files(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder; the caller holds its lock."""
    for path in folder.glob(".partial-*"):
        if _PARTIAL.match(path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn an error of safetensors that reports one of the system into an :class:`OSError` about ``path``."""
    try:
        yield
    except SafetensorError as error:
        found = _NUMBER.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        translated = OSError(number, os.strerror(number), str(path))
        raise translated from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write a JSON file."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file."""
    with whole_file(path) as partial:
        save_file(dict(tensors), partial, dict(metadata))


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return the SHA-256 of tensors (names, types, shapes, bytes) and of a text beside them, in hexadecimal."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest, block = hashlib.sha256(), bytearray(2**20)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(view[:count])
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(handle)
