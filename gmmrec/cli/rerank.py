"""``gmmrec rerank``: a slow run that reranks the top items of a fast one."""

import argparse
import json
import sys
import time
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, given_classes


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``rerank``."""
    parser = subparsers.add_parser(
        "rerank",
        help="rerank the top items of a fast run with a slow one",
        description="Rerank the top items of a fast run for every user with a slow run on the same data set and split; all other "
        "items follow in the order of the fast run.",
        allow_abbrev=False,
    )
    parser.add_argument("fast", metavar="FAST", type=Path, help="run folder of the model that scores the whole catalogue")
    parser.add_argument("slow", metavar="SLOW", type=Path, help="run folder of the model that scores the candidates")
    parser.add_argument("--top", metavar="N", type=int, default=200, help="candidates per user (default 200)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder of the combination (default runs/DATA-rerank-TIME)")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Combine both runs, save and print."""
    from gmmrec.runs.combine import rerank  # not at the top: the command line answers --help without torch

    made = rerank(arguments.fast, arguments.slow, top=arguments.top, **given_classes(arguments))
    data = Path(made.report["dataset"]).name
    folder = made.save(arguments.out or Path("runs") / f"{data}-rerank-{time.strftime('%Y%m%d-%H%M%S')}")
    print(json.dumps(made.report) if arguments.json else made.results["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0
