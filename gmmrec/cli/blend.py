"""``gmmrec blend``: a weighted blend of several finished runs."""

import argparse
import json
import sys
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.cli.train import new_folder
from gmmrec.errors import UsageError


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``blend``."""
    parser = subparsers.add_parser(
        "blend",
        help="blend finished runs by a weighted sum of their scores",
        description="Blend finished runs on one data set and split by a sum of their scores, weighted on the validation part.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folder")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder of the blend (default runs/DATA-blend-TIME)")
    parser.add_argument(
        "--metric", metavar="NAME@K", default="recall@20", help="validation metric that the weights maximize (default recall@20)"
    )
    parser.add_argument(
        "--scale", choices=("standard", "ranks"), default="standard", help="scale on which scores are summed (default standard)"
    )
    parser.add_argument("--weights", metavar="W,W", help="weights of the runs, in order; searched for by default")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out when the new one is complete")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Blend, save and print."""
    from gmmrec.runs.combine import blend  # not at the top: the command line answers --help without torch

    weights = None if arguments.weights is None else _numbers(arguments.weights)
    settings = {"metric": arguments.metric, "scale": arguments.scale, "weights": weights, "overwrite": arguments.overwrite}
    blended = blend(arguments.folders, **settings, out=arguments.out, **given_classes(arguments))
    folder = arguments.out or blended.save(new_folder(f"{Path(blended.report['dataset']).name}-blend"))
    if arguments.json:
        print(json.dumps(blended.report))
        return 0
    for name, weight in zip(blended.report["blend"]["runs"], blended.report["blend"]["weights"], strict=True):
        print(f"{weight:6.3f}  {name}")
    print()
    print(blended.results["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights takes numbers separated by commas, such as 0.3,0.7, but got {text!r}") from None
