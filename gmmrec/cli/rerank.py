"""``gmmrec rerank``: a slow run puts a fast one's best items in order."""

import argparse
import json
import sys
import time
from pathlib import Path


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rerank``."""
    parser = subparsers.add_parser(
        "rerank",
        help="let a slow run rank the best of a fast one",
        description="Takes a fast run's best items for every user, has a slow run of the same data set and split rank them, and "
        "leaves all others behind them in the fast run's order.",
        allow_abbrev=False,
    )
    parser.add_argument("fast", metavar="FAST", type=Path, help="run folder of the model that scores the whole catalogue")
    parser.add_argument("slow", metavar="SLOW", type=Path, help="run folder of the model that scores the candidates")
    parser.add_argument("--top", metavar="N", type=int, default=200, help="candidates a user (default 200)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder of both; runs/DATA-rerank-TIME where not given")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Joins both, saves and prints."""
    from gmmrec.runs.rerank import rerank  # not at the top: the command line answers --help without torch

    made = rerank(arguments.fast, arguments.slow, top=arguments.top)
    data = Path(made.report["dataset"]).name
    folder = made.save(arguments.out or Path("runs") / f"{data}-rerank-{time.strftime('%Y%m%d-%H%M%S')}")
    print(json.dumps(made.report) if arguments.json else made.results["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0
