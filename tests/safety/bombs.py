"""Small files that declare, or unpack to, far more than they hold."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np

UNPACKED = 17 * 2**20
"""Bytes of the gzip bombs: just above the least bound, so that a reader without it passes them in a second."""


def gzip_bomb(path: Path, header: bytes = b"user,item\n", line: bytes = b"u,i\n") -> Path:
    """Write one line, repeated."""
    path.write_bytes(gzip.compress(header + line * (UNPACKED // len(line)), 9))
    return path


def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """Return the header of an array, without any values."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(path: Path, members: dict[str, bytes]) -> Path:
    """Write a compressed archive of the given members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zeros_npz(path: Path, count: int) -> Path:
    """Write an archive whose one member unpacks to ``count`` MiB of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive, archive.open("values.npy", "w") as file:
        file.write(npy_header((count * 2**18, 1)))
        for _ in range(count):
            file.write(bytes(2**20))
    return path
