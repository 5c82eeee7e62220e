"""NumPy files, loaded without pickle and only after their declared sizes were checked."""

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from gmmrec.errors import DataError
from gmmrec.safety.sizes import NUMBERS, check_file, check_unpacked, in_words

BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, TypeError, SyntaxError, LookupError,
    RuntimeError, MemoryError, AttributeError, tokenize.TokenError,
)  # fmt: skip
"""Errors that NumPy and zipfile raise on damaged files."""


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` by name, or that of an ``.npy`` as ``values``.

    Raises:
        DataError: The file is no array file, is damaged, holds pickled objects, or declares more than it holds or memory allows.
    """
    check_file(path)
    with path.open("rb") as file:
        head = file.read(64)
    magic = b"PK" if path.suffix == ".npz" else npy.MAGIC_PREFIX
    if not head:
        raise DataError(f"{path.name} is empty (0 bytes); copy or download it again")
    if head.startswith(b"\x80"):
        raise DataError(f"{path.name} is a pickle, which can run code when loaded; save plain numbers with numpy.save")
    if not head.startswith(magic):
        beginning = head[:20].decode("ascii", "replace")
        raise DataError(f"{path.name} is not a NumPy {path.suffix} file (it begins with {beginning!r}); save it with numpy")
    try:
        with path.open("rb") as file:
            if path.suffix == ".npz":
                with zipfile.ZipFile(file) as archive:
                    return _members(path, archive)
            size = path.stat().st_size
            _check_header(path, "its array", file, size)
            file.seek(0)
            return {"values": npy.read_array(file, allow_pickle=False)}
    except DataError:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path.name} is truncated or damaged ({reason}); copy or download it again") from None


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    check_unpacked(sum(member.file_size for member in members), path, NUMBERS)
    arrays: dict[str, NDArray[Any]] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in arrays:
            raise DataError(f"{path.name} holds the array {name[:60]!r} twice; save it again with numpy.savez")
        with archive.open(member) as file:
            _check_header(path, f"the array {name[:60]!r}", file, member.file_size)
        with archive.open(member) as file:
            arrays[name] = npy.read_array(file, allow_pickle=False)
    return arrays


def _check_header(path: Path, what: str, file: IO[bytes], size: int) -> None:
    """Refuse an array that declares more bytes than the ``size`` of its file, or objects."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise DataError(f"{path.name}: {what} has the format {version}, which holds no plain numbers; save it with numpy.save")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{path.name} holds pickled objects, which can run code when loaded; save plain numbers with numpy.save")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared > size - file.tell():
        raise DataError(
            f"{path.name} is truncated or damaged ({what} declares {in_words(max(0, declared))}, shape {str(shape)[:60]}, but "
            f"{in_words(max(0, size - file.tell()))} follow); copy or download it again"
        )
