"""``gmmrec rerank``: a slow run that reranks the top items of a fast one."""

import argparse
import json
import sys
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.cli.train import new_folder


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
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out when the new one is complete")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Combine both runs, save and print."""
    from gmmrec.runs.combine import rerank  # not at the top: the command line answers --help without torch

    where = {"out": arguments.out, "overwrite": arguments.overwrite}
    made = rerank(arguments.fast, arguments.slow, top=arguments.top, **where, **given_classes(arguments))
    folder = arguments.out or made.save(new_folder(f"{Path(made.report['dataset']).name}-rerank"))
    print(json.dumps(made.report) if arguments.json else made.results["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0
