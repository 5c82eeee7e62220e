"""The ``gmmrec`` command: parse, call, print; :mod:`gmmrec.cli.failure` turns exceptions into one line."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import gmmrec
from gmmrec.cli import blend, compare, complete, data, doctor, evaluate, explain, graph, link, models, recommend, rerank, train
from gmmrec.cli.failure import report
from gmmrec.renamed import new_name
from gmmrec.safety.names import visible

COMMANDS = (train, evaluate, recommend, complete, link, explain, data, graph, models, compare, blend, rerank, doctor)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command: ``run`` executes it, ``prog`` is its full name, ``flags`` holds its settings."""
    parser = argparse.ArgumentParser(
        prog="gmmrec", description="Multimodal graph recommendation: build graphs, train, evaluate, recommend.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"gmmrec {gmmrec.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(subparsers)
    _finish_commands(parser)
    known, rest = parser.parse_known_args(arguments)
    for flag in rest:
        if (new := new_name(flag.partition("=")[0])) is not None:
            parser.error(f"{flag.partition('=')[0]} is now called {new}; see '{known.prog} --help'")
    if rest and not (getattr(known, "takes_settings", False) and any(flag.startswith("--") for flag in rest)):
        parser.error(f"unknown argument {rest[0]!r}; see '{known.prog} --help'")
    known.flags = rest
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    known = parse(arguments)
    logging.basicConfig(level=logging.INFO, handlers=[_messages()])
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it logs the instruction sets it tries
    try:
        code = int(known.run(known))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again on exit
        return 0
    except Exception as error:  # noqa: BLE001 (every exception ends in one line)
        return report(error, known.prog, debug=known.debug)


class _Visible(logging.Formatter):
    """Messages alone, without characters that steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _messages() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(message)s"))
    return handler


def _finish_commands(parser: argparse.ArgumentParser) -> None:
    """Give every command ``--debug``, and store in it its full name, such as ``gmmrec data convert``."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.set_defaults(prog=command.prog, debug=False)
                command.add_argument("--debug", action="store_true", help="show the traceback of an error")
                _finish_commands(command)


if __name__ == "__main__":
    sys.exit(main())
