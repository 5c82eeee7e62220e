"""``gmmrec link``: link prediction in raw ids."""

import argparse
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, given_classes
from gmmrec.errors import UsageError
from gmmrec.safety.names import visible


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``link``."""
    parser = subparsers.add_parser("link", help="predict the missing entity of a knowledge graph triple", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--head", metavar="ID", help="head entity; tails are predicted")
    ends.add_argument("--tail", metavar="ID", help="tail entity; heads are predicted")
    parser.add_argument("--relation", metavar="ID", required=True, help="relation id")
    parser.add_argument("--include-known", action="store_true", help="also list entities of known triples")
    parser.add_argument("-k", type=int, default=10, help="length of the list (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_class_flags(parser)
    parser.set_defaults(run=link)


def link(arguments: argparse.Namespace) -> int:
    """Predict and print."""
    from gmmrec.runs.run import Run

    finished = Run.load(arguments.folder, **given_classes(arguments))
    if "entity" not in finished.vocabularies:
        raise UsageError(f"{arguments.folder} has no entities; give a run of a link-prediction model, such as mkgformer")
    given = {end: text for end in ("head", "tail") if (text := getattr(arguments, end)) is not None}
    ids = {end: finished.vocabularies["entity"].parse(text) for end, text in given.items()}
    relation = finished.vocabularies["relation"].parse(arguments.relation)
    frame = finished.link(relation=relation, k=arguments.k, exclude_known=not arguments.include_known, **ids)
    if arguments.json:
        print(f'{{"rows": {frame.to_json(orient="records", force_ascii=False)}}}')
    else:
        print(visible(frame.to_string(index=False, formatters={"score": "{:.4f}".format})))
    return 0
