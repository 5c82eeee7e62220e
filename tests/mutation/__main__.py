"""Mutation testing with cosmic-ray's operators: a seeded sample of mutants per package, each against its own tests.

``python -m tests.mutation nn graph`` plants them one after another in a copy of the tree and appends a row each to
``results.csv``; an interrupted run continues. ``--report`` prints the table of scores, ``--survivors`` lists those to look at, and
``--again`` plants survivors once more after tests were added. The tests of a module are the file that mirrors it
(``tests/test_mirrors.py``) and the examples of its docstrings, as in the suite.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.faults.plant import ROOT, copy_tree, preload, run_tests, write
from tests.mutation.results import (
    KILLED,
    RESULTS,
    SLOW,
    SURVIVED,
    UNUSABLE,
    Result,
    append,
    outcomes,
    read_equivalent,
    read_results,
    table,
)
from tests.mutation.sites import PACKAGES, Mutant, mutate, read_package, sample
from tests.test_mirrors import COVERED, mirror


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation testing of a seeded sample.")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"among {', '.join(PACKAGES)} (default: all)")
    parser.add_argument("--size", type=int, default=200, help="mutants per package")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time; run again to continue")
    parser.add_argument("--again", action="store_true", help="plant the survivors again, and only these")
    parser.add_argument("--only", metavar="TEXT", help="only mutants of files with this text in their path")
    parser.add_argument("--report", action="store_true", help="print the table of scores and plant nothing")
    parser.add_argument("--survivors", action="store_true", help="list the survivors that are not equivalent and plant nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of results, continued where it exists")
    options = parser.parse_args(arguments)
    for package in options.packages:
        if package not in PACKAGES:
            parser.error(f"PACKAGE must be among {', '.join(PACKAGES)}, but is {package!r}")
    packages = options.packages or PACKAGES
    sources, results, reasons = read_package(ROOT, packages), read_results(options.out), read_equivalent()
    drawn = {package: sample(package, sources, options.size, options.seed) for package in packages}
    if options.report:
        both = (read_results(options.out, first=True), results)
        print(table(*({package: outcomes(mutants, rows, reasons) for package, mutants in drawn.items()} for rows in both)))
        return 0
    everything = [mutant for package in packages for mutant in drawn[package] if (options.only or "") in mutant.file]
    survivors = [m for m in everything if m.key in results and results[m.key].outcome == SURVIVED]
    survivors = [m for m in survivors if (m.file, m.before, m.after) not in reasons]
    if options.survivors:
        for mutant in survivors:
            print(f"{mutant.file}:{mutant.number} {mutant.operator}\n  - {mutant.before}\n  + {mutant.after}")
        return 0
    todo = survivors if options.again else [mutant for mutant in everything if mutant.key not in results]
    if todo:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            copy = Path(folder).resolve()
            copy_tree(ROOT, copy)
            done = plant_all(todo, sources, copy, partial(append, options.out), time.monotonic() + options.seconds)
        print(f"{done} of {len(todo)} mutants planted" + ("" if done == len(todo) else "; run again to continue"))
        return 0 if done == len(todo) else 3
    print("nothing left to plant; --report prints the scores")
    return 0


def plant_all(
    mutants: Sequence[Mutant], sources: dict[str, str], copy: Path, record: Callable[[Result], None], deadline: float
) -> int:
    """Plant mutants one by one until all are done or time is up; return their number.

    Raises:
        ValueError: Tests fail without a mutant.
    """
    preload()
    usual: dict[str, float] = {}
    for done, mutant in enumerate(mutants):
        if time.monotonic() > deadline:
            return done
        tests = mirrored_tests(mutant.file)
        if mutant.file not in usual:
            begin = time.monotonic()
            code, text = run_tests(tests, copy, 3600, more=["--doctest-modules"])
            if code != 0:
                raise ValueError(f"{' '.join(tests)} must pass before a mutant is planted, but does not: {text[-2000:]}")
            usual[mutant.file] = time.monotonic() - begin
        begin = time.monotonic()
        write(copy / mutant.file, mutate(sources[mutant.file], mutant.operator, mutant.occurrence))
        code, _ = run_tests(tests, copy, 30 + 5 * usual[mutant.file], more=["--doctest-modules"])
        write(copy / mutant.file, sources[mutant.file])
        outcome = {None: SLOW, 0: SURVIVED, 2: UNUSABLE}.get(code, KILLED)
        seconds = round(time.monotonic() - begin, 1)
        record(Result(mutant.file, mutant.number, mutant.operator, outcome, seconds, mutant.before, mutant.after, mutant.nth))
        print(f"{done + 1}/{len(mutants)} {outcome} {mutant.file}:{mutant.number} {mutant.operator} {seconds} s", flush=True)
    return len(mutants)


def mirrored_tests(file: str) -> list[str]:
    """Return the test file of a module and the module itself, for the examples in it."""
    source = file.removeprefix("gmmrec/")
    path = mirror(source)
    test = path.relative_to(ROOT).as_posix() if path.is_file() else f"tests/{COVERED[source]}"
    return [test, file]


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    sys.exit(main())
