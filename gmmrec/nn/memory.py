"""Available memory, and a check before it runs out."""

import os
from pathlib import Path

import torch

from gmmrec.errors import UsageError

GIB = 2**30


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the bytes that can still be allocated on a device; None if unknown.

    On Linux this is the kernel's estimate within the container's limit; elsewhere the total memory of the machine.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        available = int(fields["MemAvailable"].split()[0]) * 1024
        bound = limit.read_text().strip() if limit.is_file() else "max"
        return available if bound == "max" else min(available, int(bound))
    known = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in known and "SC_PAGE_SIZE" in known:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def check_memory(needed: int, what: str, remedy: str, device: torch.device | str = "cpu") -> None:
    """Check that an allocation fits into memory.

    Args:
        needed: Bytes.
        what: Owner of the memory; the subject of the message.
        remedy: Advice; the end of the message.
        device: Device of the memory.

    Raises:
        UsageError: Less than ``needed`` is available.

    >>> check_memory(2**60, "a table of everything", "ask for less")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: a table of everything needs 1073741824.0 GiB of memory, but ... GiB are available; ask for less
    """
    available = available_memory(device)
    if available is not None and needed > available:
        raise UsageError(f"{what} needs {needed / GIB:.1f} GiB of memory, but {available / GIB:.1f} GiB are available; {remedy}")
