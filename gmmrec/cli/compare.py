"""``gmmrec compare``: finished runs ranked by a metric, with paired significance tests."""

import argparse
import json
from pathlib import Path

from gmmrec.safety.names import visible


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``compare``."""
    parser = subparsers.add_parser("compare", help="compare finished runs with paired tests", allow_abbrev=False)
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folder (at least two)")
    parser.add_argument(
        "--metric",
        metavar="NAME@K",
        default="ndcg@20",
        help="metric to compare, such as recall@20, rmse or impressions/auc (default ndcg@20)",
    )
    parser.add_argument("--group", default="all", help="group of the results, such as 'cold items' (default all)")
    parser.add_argument("--reference", metavar="NAME", help="run to compare with, as named in the table (default: the best)")
    parser.add_argument("--group-seeds", action="store_true", help="average runs that differ only in the seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    from gmmrec.evaluation.compare import compare, read_runs  # not at the top: the command line answers --help without torch
    from gmmrec.evaluation.kinds import task_of_metric

    task_of_metric(arguments.metric)  # fails early on an unknown metric
    runs = read_runs(arguments.folders, group_seeds=arguments.group_seeds, metric=arguments.metric)
    comparison = compare(runs, metric=arguments.metric, group=arguments.group, reference=arguments.reference)
    print(
        json.dumps(comparison.to_dict()) if arguments.json else visible(comparison.to_markdown()),
        end="\n" if arguments.json else "",
    )
    return 0
