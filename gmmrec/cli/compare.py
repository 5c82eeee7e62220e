"""``gmmrec compare``: which of several finished runs is better, and whether that is more than chance."""

import argparse
import json
from pathlib import Path


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``compare``."""
    parser = subparsers.add_parser("compare", help="compare finished runs, user by user", allow_abbrev=False)
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folder; at least two")
    parser.add_argument(
        "--metric",
        metavar="NAME@K",
        default="ndcg@20",
        help="what to compare; also rmse, or TASK/METRIC, such as impressions/auc (default ndcg@20)",
    )
    parser.add_argument("--group", default="all", help="a group of the results, such as 'cold items' (default all)")
    parser.add_argument("--reference", metavar="NAME", help="the run to compare with, as the table names it (default the best)")
    parser.add_argument("--group-seeds", action="store_true", help="average runs that differ in nothing but the seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compares and prints."""
    from gmmrec.evaluation.compare import compare, read_runs  # not at the top: the command line answers --help without torch
    from gmmrec.evaluation.kinds import task_of_metric

    task_of_metric(arguments.metric)  # says at once what cannot be compared
    runs = read_runs(arguments.folders, group_seeds=arguments.group_seeds, metric=arguments.metric)
    comparison = compare(runs, metric=arguments.metric, group=arguments.group, reference=arguments.reference)
    print(json.dumps(comparison.to_dict()) if arguments.json else comparison.to_markdown(), end="\n" if arguments.json else "")
    return 0
