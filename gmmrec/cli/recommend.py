"""``gmmrec recommend`` and ``gmmrec similar``: ranked lists in raw ids."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.errors import UsageError
from gmmrec.safety.names import visible

if TYPE_CHECKING:
    import pandas as pd


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``recommend`` and ``similar``."""
    parser = subparsers.add_parser("recommend", help="recommend items to users", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--users", metavar="ID,ID", help="user ids (default: all users)")
    parser.add_argument("--history", metavar="ID,ID", action="append", help="item ids of a new user's history; repeatable")
    parser.add_argument("--include-seen", action="store_true", help="also recommend items the user has interacted with")
    _add_output(parser)
    add_class_flags(parser)
    parser.set_defaults(run=recommend)

    parser = subparsers.add_parser("similar", help="find items with similar representations", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    parser.add_argument("--items", metavar="ID,ID", required=True, help="item ids")
    _add_output(parser)
    add_class_flags(parser)
    parser.set_defaults(run=similar)


def recommend(arguments: argparse.Namespace) -> int:
    """Recommend and print."""
    from gmmrec.runs.run import Run

    finished = Run.load(arguments.folder, **given_classes(arguments))
    users = None if arguments.users is None else [finished.vocabularies["user"].parse(u) for u in _split(arguments.users)]
    histories = arguments.history and [[finished.vocabularies["item"].parse(i) for i in _split(h)] for h in arguments.history]
    frame = finished.recommend(users, arguments.k, exclude_seen=not arguments.include_seen, histories=histories)
    return _write(frame, arguments)


def similar(arguments: argparse.Namespace) -> int:
    """Find similar items and print."""
    from gmmrec.runs.run import Run

    finished = Run.load(arguments.folder, **given_classes(arguments))
    items = [finished.vocabularies["item"].parse(i) for i in _split(arguments.items)]
    return _write(finished.similar_items(items, arguments.k), arguments)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-k", type=int, default=10, help="length of every list (default 10)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write a .csv, .tsv, .json or .parquet file instead of printing")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _split(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _write(frame: "pd.DataFrame", arguments: argparse.Namespace) -> int:
    out: Path | None = arguments.out
    if arguments.json:
        print(f'{{"rows": {frame.to_json(orient="records", force_ascii=False)}}}')
    if out is None:
        if not arguments.json:
            print(visible(frame.to_string(index=False, formatters={"score": "{:.4f}".format})))
        return 0
    if out.suffix == ".csv" or out.name.endswith(".csv.gz"):
        frame.to_csv(out, index=False)
    elif out.suffix == ".tsv":
        frame.to_csv(out, index=False, sep="\t")
    elif out.suffix == ".json":
        frame.to_json(out, orient="records", force_ascii=False)
    elif out.suffix == ".parquet":
        try:
            frame.to_parquet(out, index=False)
        except ImportError:
            raise UsageError(f"writing {out} needs pyarrow; install it with: pip install 'gmmrec[parquet]'") from None
    else:
        raise UsageError(f"--out must end in .csv, .csv.gz, .tsv, .json or .parquet, but is {out}")
    return 0
