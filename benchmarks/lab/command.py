"""Shared command-line flags of the benchmarks."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lab.paths import DATA


def parser(doc: str | None, *, seeds: Sequence[int] = (0, 1, 2), threads: int = 2, data: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the flags of benchmarks that train models.

    Args:
        doc: Docstring of the script, as the description.
        seeds: Default seeds.
        threads: Default number of torch threads.
        data: Add a flag for the folder of data sets that are not bundled.
    """
    made = plain_parser(doc, threads=threads)
    made.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    made.add_argument("--tables-only", action="store_true", help="run nothing; render the tables from the results")
    if data:
        made.add_argument("--data", type=Path, default=DATA, help="folder of the data sets that are not bundled")
    return made


def plain_parser(doc: str | None, *, threads: int = 2) -> argparse.ArgumentParser:
    """Return a parser with the flags of every benchmark."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=int, default=threads, help="threads torch may use (default: %(default)s)")
    return made


def timing_parser(doc: str | None, *, threads: int = 2) -> argparse.ArgumentParser:
    """Return a parser with the flags of benchmarks that measure time."""
    made = plain_parser(doc, threads=threads)
    made.add_argument("--keep", action="store_true", help="keep the figures in benchmarks/results and render the README's tables")
    made.add_argument("--tables-only", action="store_true", help="measure nothing; render the README's tables from the results")
    return made


def start(made: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags, start the log and set the number of threads."""
    flags = made.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(flags.threads)
    return flags


def given(
    made: argparse.ArgumentParser, flags: argparse.Namespace, *, leave_out: Sequence[str] = ("threads", "tables_only")
) -> str:
    """Return the flags that differ from their defaults, as typed."""
    words: list[str] = []
    for name, value in vars(flags).items():
        if name not in leave_out and value != made.get_default(name):
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(part) for part in (value if isinstance(value, list) else [value])]
    return " ".join(words)
