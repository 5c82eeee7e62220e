"""``gmmrec blend``: several finished runs that rank together."""

import argparse
import json
import sys
import time
from pathlib import Path


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``blend``."""
    parser = subparsers.add_parser(
        "blend",
        help="let finished runs rank together",
        description="Adds up the scores of finished runs of one data set and split, with weights chosen on the validation part.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folder")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder of the blend; runs/DATA-blend-TIME where not given")
    parser.add_argument("--metric", metavar="NAME@K", default="recall@20", help="what weights are chosen by (default recall@20)")
    parser.add_argument(
        "--scale", choices=("standard", "ranks"), default="standard", help="how scores are made comparable (default standard)"
    )
    parser.add_argument("--weights", metavar="W,W", help="shares of the runs, instead of the search")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Blends, saves and prints."""
    from gmmrec.runs.combine import blend  # not at the top: the command line answers --help without torch

    weights = None if arguments.weights is None else _numbers(arguments.weights)
    blended = blend(arguments.folders, metric=arguments.metric, scale=arguments.scale, weights=weights)
    data = Path(blended.report["dataset"]).name
    folder = arguments.out or Path("runs") / f"{data}-blend-{time.strftime('%Y%m%d-%H%M%S')}"
    blended.save(folder)
    if arguments.json:
        print(json.dumps(blended.report))
        return 0
    for name, weight in zip(blended.config["runs"], blended.config["weights"], strict=True):
        print(f"{weight:6.3f}  {name}")
    print()
    print(blended.results["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--weights takes numbers separated by commas, such as 0.3,0.7, but is {text!r}") from None
