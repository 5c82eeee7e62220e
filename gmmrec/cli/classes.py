"""Flags for your own classes: ``-m module:Class`` and ``--module ROLE=module:Name``. Only modules named here are imported."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gmmrec.errors import UsageError


def add_class_flags(parser: argparse.ArgumentParser, *, with_model: bool = True) -> None:
    """Add ``-m``, unless the command has one already, and ``--module``."""
    if with_model:
        parser.add_argument(
            *("-m", "--model-class"),
            metavar="MODULE:CLASS",
            action="append",
            default=[],
            help="class from outside gmmrec that the run was trained with, such as mine:MyModel for a class in mine.py of this "
            "folder; repeatable",
        )
    parser.add_argument(
        "--module",
        metavar="ROLE=MODULE:NAME",
        action="append",
        default=[],
        help="your own module for a role of the model, such as fusion=mine:MyFusion; repeatable",
    )


def given_classes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`gmmrec.load` besides the folder: the classes and parts named on the command line."""
    from gmmrec.models.lookup import find_model  # not at the top: the command line answers --help without torch

    allow_working_folder([*arguments.model_class, *arguments.module])
    return {"model_class": [find_model(name) for name in arguments.model_class], "parts": given_parts(arguments)}


def given_parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parts named on the command line, by role; a list if a role is given several times.

    Raises:
        UsageError: A flag is not ROLE=MODULE:NAME, or names nothing that can be imported.
    """
    from gmmrec.models.lookup import find_part

    allow_working_folder(arguments.module)
    found: dict[str, list[Any]] = {}
    for text in arguments.module:
        role, equals, path = text.partition("=")
        module, colon, name = path.partition(":")
        if not (role and equals and module and colon and name):
            raise UsageError(f"--module takes ROLE=MODULE:NAME, such as fusion=mine:MyFusion, but is {text!r}")
        found.setdefault(role, []).append(find_part(path))
    return {role: parts[0] if len(parts) == 1 else parts for role, parts in found.items()}


def allow_working_folder(names: Sequence[str]) -> None:
    """Put the working folder on the import path if a class or a part is named; otherwise nothing in it is ever imported.

    It comes last, so that none of its files shadows an installed module.
    """
    folder = str(Path.cwd())
    if any(":" in name for name in names) and folder not in sys.path:
        sys.path.append(folder)
