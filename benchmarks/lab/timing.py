"""Time and memory measurements: functions take turns in one process; medians are reported."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TypeVar

Value = TypeVar("Value")
UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10
"""``getrusage`` counts bytes there, kibibytes elsewhere."""


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one call."""
    begin = clock()
    work()
    return clock() - begin


def interleaved(works: Mapping[str, Callable[[], float]], rounds: int, each: int = 1) -> dict[str, float]:
    """Return the median of the seconds that each function returns: a warm-up round, then ``rounds`` of ``each`` calls in turn."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            times = [work() for _ in range(each)]
            if turn:
                found[name] += times
    return {name: median(times) for name, times in found.items()}


def timed(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each function, run in turns."""
    return interleaved({name: lambda work=work: seconds(work) for name, work in works.items()}, rounds)  # type: ignore[misc]


def in_new_process(work: Callable[..., Value], *arguments: object) -> Value:
    """Return the result of a function run in a new process, so that its peak memory is measured alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")  # preferred: ru_maxrss is inherited from the parent process
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNITS_PER_MIB
