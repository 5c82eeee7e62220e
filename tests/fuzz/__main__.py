"""Long fuzzing from the command line: ``python -m tests.fuzz --cases 100000 --seed 0 --out fuzz.jsonl``.

An interrupted run goes on where it stopped, and several may work on one file. Faults are in the folder ``fuzz.faults``, one for
each cause: input files, call and traceback. ``--replay FOLDER`` runs one again.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from hypothesis import configuration

from tests.fuzz.case import Case
from tests.fuzz.long import run, summary
from tests.fuzz.targets import TARGETS
from tests.fuzz.verdict import try_case


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz readers, settings, ids, run folders and commands."
    )
    parser.add_argument("--cases", type=int, default=100_000, help="number of cases over all targets")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases")
    parser.add_argument("--out", type=Path, default=Path("fuzz.jsonl"), help="file of results, continued where it exists")
    parser.add_argument("--only", nargs="+", metavar="TARGET", choices=sorted(TARGETS), help="these targets only")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="run the case of a fault again")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")
    logging.getLogger().addHandler(logging.NullHandler())
    if options.replay is not None:
        name, case = Case.load(options.replay)
        TARGETS[name].prepare()
        with tempfile.TemporaryDirectory() as root:
            verdict = try_case(TARGETS[name], case, Path(root))
        print(f"{name}: {verdict.kind} {verdict.cause}\n{verdict.text}")
        return int(verdict.kind == "fault")
    targets = [TARGETS[name] for name in options.only or TARGETS]
    results = run(targets, options.cases, options.seed, options.out.absolute())
    print(summary(results))
    return int(any(result.faults for result in results))


if __name__ == "__main__":
    sys.exit(main())
