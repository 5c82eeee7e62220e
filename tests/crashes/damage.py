"""Damage to a file: five ways in which disks, copies and people change it."""

from collections.abc import Callable, Mapping
from pathlib import Path


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Cut off the second half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    """Cut off everything."""
    path.write_bytes(b"")


def remove(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def replace(path: Path) -> None:
    """Put something else in its place."""
    path.write_bytes(b'{"not": "what was written"}\n' + b"\0" * 64)


WAYS: Mapping[str, Callable[[Path], None]] = {each.__name__: each for each in (flip, cut, empty, remove, replace)}
