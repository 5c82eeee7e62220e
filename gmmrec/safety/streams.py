"""Compressed text, read no further than the bound on its size."""

import gzip
import io
from pathlib import Path
from typing import Any

from gmmrec.safety.sizes import TEXT, bound, in_words, too_large


class Bounded(io.RawIOBase):
    """Bytes of a gzip file; reading more than its bound raises an error.

    Args:
        path: The file.

    Raises:
        DataError: While reading: the file unpacks to more than :func:`gmmrec.safety.sizes.bound` allows.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._most, self._count = path, bound(path.stat().st_size, TEXT), 0
        self._inner = gzip.GzipFile(path, "rb")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer and return their number."""
        count = self._inner.readinto(buffer)
        self._count += count
        if self._count > self._most:
            size = in_words(self._path.stat().st_size)
            raise too_large(self._path, f"it unpacks to more than {in_words(self._most)} from {size}", 2 * self._most)
        return count

    def close(self) -> None:
        """Close the file."""
        self._inner.close()
        super().close()


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file for reading; ``.gz`` is unpacked within the bound on its size."""
    raw = Bounded(path) if path.suffix == ".gz" else io.FileIO(path)
    return io.BufferedReader(raw, 2**18)


def open_text(path: Path, encoding: str = "utf-8", newline: str | None = None) -> io.TextIOWrapper:
    """Open a text file for reading; ``.gz`` is unpacked within the bound on its size."""
    file = open_bytes(path)
    try:
        return io.TextIOWrapper(file, encoding=encoding, newline=newline)
    except LookupError:  # an unknown encoding
        file.close()
        raise
