"""Mutation tests: plant every fault of the table in a copy of the tree and check that its tests catch it.

``python -m tests.faults.plant --out after.csv`` writes one row per fault: caught or survived. ``baseline.csv`` is the result of an
earlier commit: a fault that was caught there and is not caught now is named at the end, and the exit status is 1. An interrupted
run resumes where it stopped; remove the file to start over.

A fault must fail silently. One that raises for an unknown name or a failed import proves nothing about the tests; it is reported as
broken, and the table must be updated.
"""

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from tests.faults.table import HERE, Fault, locate, locate_test, read_sources, read_table

ROOT = HERE.parents[1]
BASELINE = HERE / "baseline.csv"
COLUMNS = ("id", "file", "outcome")
CAUGHT, SURVIVED, BROKEN, SLOW = "caught", "survived", "broken", "timed out"
OUTCOMES = (CAUGHT, SURVIVED, BROKEN, SLOW)
PRELOADED = ("torch", "torch_geometric", "pandas", "scipy.stats", "lightning_fabric", "jsonargparse", "sklearn.metrics", "pytest")
MISTAKES = re.compile(
    r"^E +(NameError|AttributeError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|IndentationError"
    r"|TypeError: .*unexpected keyword argument|TypeError: .*missing \d+ required)",
    re.MULTILINE,
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.plant", description="Plant faults and see whether tests catch them."
    )
    parser.add_argument("--only", nargs="+", metavar="ID", help="plant these faults only")
    parser.add_argument("--out", type=Path, default=Path("faults.csv"), help="file of results, continued where it exists")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for the tests of one fault")
    options = parser.parse_args(arguments)
    results = read_results(options.out)
    faults = read_table()
    for name in options.only or ():
        if name not in {fault.id for fault in faults}:
            parser.error(f"there is no fault {name!r} in the table")
    faults = [fault for fault in faults if fault.id not in results and (not options.only or fault.id in options.only)]
    started = time.perf_counter()
    if faults:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            copy = Path(folder).resolve()
            copy_tree(ROOT, copy)
            try:
                results |= plant_all(faults, copy, options.out, options.timeout)
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
    return summarise(results, time.perf_counter() - started)


def plant_all(faults: Sequence[Fault], copy: Path, out: Path, timeout: float) -> dict[str, tuple[str, str]]:
    """Return file and outcome of every fault by id; append each to the file of results at once."""
    sources = read_sources(copy)
    files = {fault.id: locate(fault, sources) for fault in faults}
    tests = {fault.id: [locate_test(test, copy) for test in fault.tests] for fault in faults}
    preload()
    check_tests(sorted({test for chosen in tests.values() for test in chosen}), copy)
    results = {}
    for number, fault in enumerate(faults, 1):
        file, begin = files[fault.id], time.perf_counter()
        write(copy / file, sources[file].replace(fault.old, fault.new))
        outcome = outcome_of(*run_tests(tests[fault.id], copy, timeout))
        write(copy / file, sources[file])
        results[fault.id] = (file, outcome)
        append(out, fault.id, file, outcome)
        moved = "" if file == fault.file else f" (moved to {file})"
        print(f"{number:3}/{len(faults)} {outcome:9} {fault.id}{moved} {time.perf_counter() - begin:.1f} s", flush=True)
    return results


def copy_tree(root: Path, copy: Path) -> None:
    """Copy tracked and untracked files of the working tree, without ignored ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)


def preload() -> None:
    """Import the libraries once, so that every fault only costs its tests."""
    for name in PRELOADED:
        import_module(name)


def check_tests(tests: Sequence[str], copy: Path) -> None:
    """Run all tests of the table without a fault.

    Raises:
        ValueError: A test fails, or another package than the copy is imported.
    """
    code, text = run_tests(tests, copy, timeout=3600, stop=False)
    if code != 0:
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        raise ValueError(f"tests must pass before a fault is planted, but these do not: {', '.join(failed) or text[-2000:]}")


def run_tests(
    tests: Sequence[str], copy: Path, timeout: float, *, stop: bool = True, more: Sequence[str] = ()
) -> tuple[int | None, str]:
    """Run pytest on the copy in a new process; return its exit status, None after a timeout, and its output."""
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(copy), "-o", "addopts=", *(["-x"] if stop else []), *more]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that a preloaded library has imported

    def run() -> int:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "gmmrec")]:
            del sys.modules[name]
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
        package = Path(str(import_module("gmmrec").__file__)).resolve()
        if copy not in package.parents:
            print(f"the tests import {package} instead of the copy")
            return 3
        return int(import_module("pytest").main([*options, *tests]))

    return forked(run, copy / "output.txt", timeout)


def forked(run: Callable[[], int], output: Path, timeout: float) -> tuple[int | None, str]:
    """Run a function in a child process; return its status, None after a timeout, and its output."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 3
        try:
            os.setsid()
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            status = run()
        except BaseException as error:  # noqa: BLE001 (a child never returns into its parent)
            print(f"{type(error).__name__}: {error}")
        finally:
            sys.stdout.flush()
            os._exit(status)
    deadline, status = time.monotonic() + timeout, None
    while status is None and time.monotonic() < deadline:
        found, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if found else None
        time.sleep(0.02)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return status, output.read_text(encoding="utf-8", errors="replace")


def outcome_of(code: int | None, text: str) -> str:
    """Return the outcome of a fault.

    Raises:
        ValueError: No test ran.
    """
    if code is None:
        return SLOW
    if code == 0:
        return SURVIVED
    if code in (1, 2):
        return BROKEN if code == 2 or MISTAKES.search(text) else CAUGHT
    if code < 0:  # killed by a signal, as by a read beyond the end of an array
        return CAUGHT
    raise ValueError(f"pytest could not run: {text[-2000:]}")


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_results(path: Path) -> dict[str, tuple[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: (row["file"], row["outcome"]) for row in csv.DictReader(file)}


def append(path: Path, *values: str) -> None:
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow(values)


def summarise(results: dict[str, tuple[str, str]], seconds: float) -> int:
    by_outcome = {outcome: [name for name, (_, found) in results.items() if found == outcome] for outcome in OUTCOMES}
    counts = ", ".join(f"{len(names)} {outcome}" for outcome, names in by_outcome.items())
    print(f"{len(results)} faults: {counts}; {seconds:.0f} s")
    for outcome in OUTCOMES[1:]:
        if by_outcome[outcome]:
            print(f"{outcome}: {', '.join(by_outcome[outcome])}")
    before = read_results(BASELINE)
    lost = [name for name, (_, found) in results.items() if found != CAUGHT and before.get(name, ("", ""))[1] == CAUGHT]
    if lost:
        print(f"caught before, but not now: {', '.join(lost)}")
    return int(bool(lost or by_outcome[BROKEN]))


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    sys.exit(main())
