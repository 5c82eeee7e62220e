"""``gmmrec train``: from a data set to a run folder."""

import argparse
import json
import sys
import time
from pathlib import Path

from gmmrec.cli.classes import add_class_flags, allow_working_folder, given_parts
from gmmrec.cli.settings import describe_flags, expand
from gmmrec.errors import UsageError
from gmmrec.safety.documents import read_yaml


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train and evaluate a model",
        description="Train a model, evaluate it, and write a run folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        *("-m", "--model"),
        dest="model_names",
        metavar="MODEL",
        action="append",
        default=[],
        help="model name (see 'gmmrec models'), or module:Class, such as mine:MyModel for a class in mine.py of this folder; "
        "repeat it to name the class of the run in --init_from",
    )
    parser.add_argument("-d", "--data", metavar="DATA", help="data set: a bundled name or a path")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="YAML file with settings; flags override it")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder (default runs/DATA-MODEL-TIME)")
    parser.add_argument("--resume", action="store_true", help="resume from the training state in --out")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    parser.add_argument("--settings", action="store_true", help="list all settings of the model and exit")
    add_class_flags(parser, with_model=False)
    parser.set_defaults(run=train)
    describe_flags(parser, "model", "data", "split", "graph", "train", "eval", more="Add --settings to list them all.")


def train(arguments: argparse.Namespace) -> int:
    """Run the recipe and print the results."""
    from gmmrec.config import settings_parser
    from gmmrec.models.lookup import find_model, stored_model
    from gmmrec.models.lookup import given_parts as given_again
    from gmmrec.runs.config import read_config, sections_of
    from gmmrec.runs.recipe import run

    values = read_yaml(arguments.config) if arguments.config else {}
    if arguments.resume and not arguments.config and arguments.out and (arguments.out / "config.yaml").is_file():
        values = read_yaml(arguments.out / "config.yaml")
    named = values.pop("model_name", None)
    allow_working_folder(arguments.model_names)
    typed = [find_model(name) for name in arguments.model_names]
    if typed:
        model_class = typed[0]
    elif named:
        model_class = stored_model(str(named))
    else:
        raise UsageError("no model given; use -m MODEL with a name listed by 'gmmrec models', or -m module:Class")
    if arguments.settings:
        settings_parser(sections_of(model_class)).print_help()
        return 0
    flags = expand(arguments.flags)
    if arguments.data:
        flags += ["--data.path", arguments.data]
    if not any(flag.split("=")[0] == "--data.path" for flag in flags) and "path" not in (values.get("data") or {}):
        raise UsageError("no data set given; use -d DATA with a bundled name, such as movies-small, or a path")
    own = given_parts(arguments)
    config = read_config(model_class, values, flags)
    given_again(arguments.config or arguments.out or Path(), config.parts, own)
    short = config.model_name.rpartition(":")[2]
    folder = arguments.out or Path("runs") / f"{Path(config.data.path).name}-{short}-{time.strftime('%Y%m%d-%H%M%S')}"
    finished = run(config, folder=folder, resume=arguments.resume, parts=own, classes=typed)
    if arguments.json:
        print(json.dumps(finished.report))
        return 0
    print(finished.results["test"].to_markdown())
    for found in finished.other_results.values():
        print(found["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0
