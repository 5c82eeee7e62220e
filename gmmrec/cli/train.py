"""``gmmrec train``: from a data set to a run folder."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from gmmrec.cli.classes import add_class_flags, allow_working_folder, given_parts
from gmmrec.cli.settings import describe_flags, expand


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train and evaluate a model",
        description="Trains a model, evaluates it, and writes a run folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        *("-m", "--model"),
        dest="model_names",
        metavar="MODEL",
        action="append",
        default=[],
        help="name of the model (see 'gmmrec models'), or module:Class, such as mine:MyModel for a class in mine.py of this "
        "folder; a second one names the class of the run in --init_from, where that is from outside too",
    )
    parser.add_argument("-d", "--data", metavar="DATA", help="name of a bundled data set, or a path")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="YAML file with settings; flags win over it")
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder; runs/DATA-MODEL-TIME where not given")
    parser.add_argument("--resume", action="store_true", help="go on from the training state in --out")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    parser.add_argument("--settings", action="store_true", help="list every setting of the model and stop")
    add_class_flags(parser, with_model=False)
    parser.set_defaults(run=train)
    describe_flags(parser, "model", "data", "split", "graph", "train", "eval", more="Add --settings to list them all.")


def train(arguments: argparse.Namespace) -> int:
    """Runs the experiment."""
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
        raise ValueError("no model is named; give -m MODEL, one of those that 'gmmrec models' lists, or -m module:Class")
    if arguments.settings:
        settings_parser(sections_of(model_class)).print_help()
        return 0
    flags = expand(arguments.flags)
    if arguments.data:
        flags += ["--data.path", arguments.data]
    if not any(flag.split("=")[0] == "--data.path" for flag in flags) and "path" not in (values.get("data") or {}):
        raise ValueError("no data set is named; give -d DATA, a bundled name such as movies-small or a path")
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file.

    Raises:
        ValueError: The file is missing, is no YAML, or holds no settings.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no settings file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold sections such as 'train:', but holds a {type(values).__name__}")
    return values
