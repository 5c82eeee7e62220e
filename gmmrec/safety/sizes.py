"""Bounds on what a file may take in memory once it is unpacked.

A file may unpack to :data:`RATIO` times its size, small files to a fixed amount, and none to more than the memory of the machine.
The environment variable ``GMMREC_MAX_BYTES`` replaces this bound for all files.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from gmmrec.errors import DataError, UsageError

SETTING = "GMMREC_MAX_BYTES"
"""Environment variable with a bound in bytes, such as ``64G``, in place of the usual one."""
RATIO = 100
"""Bytes unpacked from a byte of a file; text has 3 to 20, mostly empty arrays more."""
MIB, GIB = 2**20, 2**30
TEXT = 16 * MIB
"""Bytes that any compressed text may unpack to; as tables they take many times more."""
NUMBERS = 256 * MIB
"""Bytes that any file of arrays, table of numbers or picture may unpack to."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def given_bound() -> int | None:
    """Return the bound of the environment variable, or None if it is not set.

    Raises:
        UsageError: It is not a size.
    """
    text = os.environ.get(SETTING, "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,18})\s*([KMGT]?)(i?B)?", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f"{SETTING} must be a number of bytes such as 64G, but is {text[:40]!r}; change or unset it")
    return int(found[1]) * _UNITS[found[2].upper()]


def total_memory() -> int | None:
    """Return the memory of the machine in bytes, or that of its container; None if unknown."""
    known, limit = getattr(os, "sysconf_names", {}), Path("/sys/fs/cgroup/memory.max")
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(known):
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        bound = limit.read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(bound)) if bound.isdigit() else total


def bound(size: int, least: int) -> int:
    """Return the bytes that a file of ``size`` bytes may unpack to, at least ``least`` of them.

    >>> bound(10, TEXT) == TEXT
    True
    """
    given = given_bound()
    if given is not None:
        return given
    memory = total_memory()
    allowed = max(least, RATIO * size)
    return allowed if memory is None else min(allowed, memory)


def check_unpacked(unpacked: int, path: Path, least: int, what: str = "") -> None:
    """Check the declared or counted size of the contents of a file.

    Args:
        unpacked: Bytes once unpacked.
        path: The file.
        least: Bytes that any file of this kind may unpack to.
        what: Part of the file, for the message.

    Raises:
        DataError: It exceeds the bound.
    """
    size = path.stat().st_size
    if unpacked > bound(size, least):
        raise too_large(path, f"{what or 'it'} unpacks to {in_words(unpacked)} from {in_words(size)}", unpacked)


def too_large(path: Path, finding: str, needed: int) -> DataError:
    """Return the error for a file that exceeds the bound."""
    enough = 2 ** math.ceil(math.log2(max(2, needed)))
    return DataError(
        f"{path.name} is refused before it fills the memory: {finding}; if you trust the file, set the environment variable "
        f"{SETTING} to {in_words(enough).replace(' ', '').replace('iB', '')}"
    )


def check_file(path: Path, most: int | None = None) -> None:
    """Check the size of a file that is read whole.

    Args:
        path: The file.
        most: Bytes of the largest sensible file of its kind; None for the memory of the machine.

    Raises:
        DataError: The file is larger, or is a folder, a pipe or a device, which may never end.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path.name} is no ordinary file; remove or rename it")
    limits = [limit for limit in (given_bound(), most) if limit is not None]
    largest = max(limits) if limits else total_memory()
    size = path.stat().st_size
    if largest is not None and size > largest:
        raise too_large(path, f"it has {in_words(size)}, but {in_words(largest)} at most are read", size)


def check_shape(shape: Sequence[int], item_size: int, what: str) -> None:
    """Check that an array whose sizes come from files fits into the memory, before it is made.

    Args:
        shape: Its sizes.
        item_size: Bytes of an entry.
        what: Subject of the message.

    Raises:
        DataError: It needs more than the bound.
    """
    needed, given = math.prod(shape) * item_size, given_bound()
    most = total_memory() if given is None else given
    if most is not None and needed > most:
        sizes = " x ".join(f"{size:,}" for size in shape)
        raise DataError(
            f"{what} would take {in_words(needed)} ({sizes}), but {in_words(most)} at most are allowed; use fewer or narrower "
            f"vectors, or set the environment variable {SETTING}"
        )


def in_words(count: int) -> str:
    """Return a number of bytes with a unit.

    >>> in_words(100), in_words(3 * 2**30)
    ('100 B', '3 GiB')
    """
    for name, unit in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("KiB", 2**10)):
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count // unit:,} {name}"
    return f"{count} B"
