"""``gmmrec evaluate``: evaluation of a finished run."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.errors import UsageError


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``evaluate``."""
    parser = subparsers.add_parser("evaluate", help="evaluate a finished run, also under other settings", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="split part to evaluate on (default test)")
    parser.add_argument(
        "--eval.mask",
        dest="mask",
        choices=("train", "train+valid", "none"),
        help="items excluded from the rankings (default: as trained)",
    )
    parser.add_argument(
        "--eval.num_sampled", dest="num_sampled", metavar="N", type=int, help="rank among N sampled items (misleading; 0 ranks all)"
    )
    parser.add_argument(
        "--eval.sampled_by",
        dest="sampled_by",
        choices=("uniform", "popularity"),
        help="how sampled items are drawn (default: as trained)",
    )
    parser.add_argument("--eval.ks", dest="ks", metavar="K,K", help="list lengths, such as 5,10,20 (default: as trained)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    from gmmrec.runs.run import Run
    from gmmrec.runs.summary import all_means, other_figures

    finished = Run.load(arguments.folder, **given_classes(arguments))
    config = finished.config.eval
    if arguments.mask:
        config = replace(config, mask=arguments.mask)
    if arguments.ks:
        if not all(k.strip().isdigit() for k in arguments.ks.split(",")):
            raise UsageError(f"--eval.ks takes list lengths separated by commas, such as 5,10,20, but got {arguments.ks!r}")
        config = replace(config, ks=tuple(int(k) for k in arguments.ks.split(",")))
    if arguments.num_sampled is not None:
        config = replace(config, num_sampled=arguments.num_sampled)
    if arguments.sampled_by:
        config = replace(config, sampled_by=arguments.sampled_by)
    found = finished.evaluate_all(arguments.part, config)
    if arguments.json:
        print(json.dumps({arguments.part: all_means(found), **other_figures(found)}))
        return 0
    print("\n".join(results.to_markdown() for results in found.values()))
    return 0
