"""Measuring time and memory: functions take turns in one process, and medians count."""

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
    """How long one call takes."""
    begin = clock()
    work()
    return clock() - begin


def interleaved(works: Mapping[str, Callable[[], float]], rounds: int, each: int = 1) -> dict[str, float]:
    """Median seconds of each work, which returns its own seconds: a round to warm up, then ``rounds`` of ``each`` calls in turn."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            times = [work() for _ in range(each)]
            if turn:
                found[name] += times
    return {name: median(times) for name, times in found.items()}


def timed(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each work, all taking turns."""
    return interleaved({name: lambda work=work: seconds(work) for name, work in works.items()}, rounds)  # type: ignore[misc]


def in_new_process(work: Callable[..., Value], *arguments: object) -> Value:
    """The result of a function in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_mib() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")  # where there is one: ru_maxrss is handed down by the process that started this one
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNITS_PER_MIB
