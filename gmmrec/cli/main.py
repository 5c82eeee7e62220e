"""The ``gmmrec`` command: parse, call, print. One sentence and exit code 2 for what a person got wrong, never a traceback."""

import argparse
import logging
import sys
from collections.abc import Sequence

from gmmrec.cli import blend, compare, complete, data, doctor, evaluate, explain, graph, link, models, recommend, rerank, train

COMMANDS = (train, evaluate, recommend, complete, link, explain, data, graph, models, compare, blend, rerank, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="gmmrec", description="Multimodal graph recommendation: build graphs, train, evaluate, recommend.", allow_abbrev=False
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(subparsers)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which instruction sets it tries
    known, rest = parser.parse_known_args(arguments)
    if rest and not getattr(known, "takes_settings", False):
        parser.error(f"unknown argument {rest[0]!r}; see 'gmmrec {known.command} --help'")
    known.flags = rest
    try:
        return int(known.run(known))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, KeyError, OSError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"gmmrec {known.command}: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
