"""``gmmrec link``: which entities complete a fact, in the user's own ids."""

import argparse
from pathlib import Path


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``link``."""
    parser = subparsers.add_parser("link", help="the entities that complete a fact of a knowledge graph", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="run folder")
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--head", metavar="ID", help="entity whose tails are asked for")
    ends.add_argument("--tail", metavar="ID", help="entity whose heads are asked for")
    parser.add_argument("--relation", metavar="ID", required=True, help="relation")
    parser.add_argument("--include-known", action="store_true", help="name also what is known already")
    parser.add_argument("-k", type=int, default=10, help="length of the list (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=link)


def link(arguments: argparse.Namespace) -> int:
    """Asks and prints."""
    from gmmrec.runs.run import Run

    finished = Run.load(arguments.folder)
    if "entity" not in finished.vocabularies:
        raise ValueError(f"{arguments.folder} knows no entities; take a run of a model of facts, such as mkgformer")
    given = {end: text for end in ("head", "tail") if (text := getattr(arguments, end)) is not None}
    ids = {end: finished.vocabularies["entity"].parse(text) for end, text in given.items()}
    relation = finished.vocabularies["relation"].parse(arguments.relation)
    frame = finished.link(relation=relation, k=arguments.k, exclude_known=not arguments.include_known, **ids)
    if arguments.json:
        print(f'{{"rows": {frame.to_json(orient="records", force_ascii=False)}}}')
    else:
        print(frame.to_string(index=False, formatters={"score": "{:.4f}".format}))
    return 0
