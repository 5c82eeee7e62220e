"""``gmmrec train``: from a data set to a run folder."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from gmmrec.cli.classes import add_class_flags, allow_working_folder, given_parts
from gmmrec.cli.settings import describe_flags, expand
from gmmrec.cli.stopping import stopping
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
    parser.add_argument(
        "--resume",
        metavar="DIR",
        nargs="?",
        const=True,
        default=False,
        help="go on with the run in DIR, or in that of --out, with its settings and data",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out when the new one is complete")
    parser.add_argument("--json", action="store_true", help="print metrics.json and nothing else")
    parser.add_argument("--settings", action="store_true", help="list all settings of the model and exit")
    add_class_flags(parser, with_model=False)
    parser.set_defaults(run=train)
    describe_flags(parser, "model", "data", "split", "graph", "train", "eval", more="Add --settings to list them all.")


def train(arguments: argparse.Namespace) -> int:
    """Run the recipe and print the results."""
    from gmmrec.config import settings_parser
    from gmmrec.models.lookup import given_parts as given_again
    from gmmrec.models.lookup import name_of
    from gmmrec.runs.config import merged, read_config, sections_of
    from gmmrec.runs.recipe import run
    from gmmrec.runs.status import settings_to_resume
    from gmmrec.training.trainer import TrainingStopped

    folder = folder_to_resume(arguments) or arguments.out
    values = settings_to_resume(folder) if arguments.resume and folder is not None else {}
    if values:
        values = with_data_of_run(values, folder)
    if arguments.config:
        values = merged(values, read_yaml(arguments.config))
    named = values.pop("model_name", None)
    model_class, typed = chosen_model(arguments, named)
    if arguments.resume and named is not None and name_of(model_class) != named:
        values.pop("model", None)  # another model has other settings; that it is another is refused later
    if arguments.settings:
        settings_parser(sections_of(model_class)).print_help()
        return 0
    flags = expand(arguments.flags)
    if arguments.data:
        flags += ["--data.path", arguments.data]
    if not any(flag.split("=")[0] == "--data.path" for flag in flags) and not has_path(values.get("data")):
        raise UsageError("no data set given; use -d DATA with a bundled name, such as movies-small, or a path")
    own = given_parts(arguments)
    config = read_config(model_class, values, flags)
    given_again(arguments.config or arguments.out or Path(), config.parts, own)
    short = config.model_name.rpartition(":")[2]
    folder = folder or new_folder(f"{Path(config.data.path).name}-{short}")
    resume, overwrite = bool(arguments.resume), arguments.overwrite
    with stopping() as should_stop:
        try:
            finished = run(
                config, folder=folder, resume=resume, overwrite=overwrite, parts=own, classes=typed, should_stop=should_stop
            )
        except (TrainingStopped, KeyboardInterrupt) as stopped:
            return should_stop.report(stopped, folder)
    if arguments.json:
        print(json.dumps(finished.report))
        return 0
    print(finished.results["test"].to_markdown())
    for found in finished.other_results.values():
        print(found["test"].to_markdown())
    print(f"\nwritten to {folder}", file=sys.stderr)
    return 0


def has_path(section: Any) -> bool:
    """Return whether the section ``data`` of a file names a path; whatever is no section is refused later."""
    return "path" in section if isinstance(section, dict) else section is not None


def folder_to_resume(arguments: argparse.Namespace) -> Path | None:
    """Return the folder given to ``--resume``, if any.

    Raises:
        UsageError: Two folders are given, or none.
    """
    if arguments.resume is True and arguments.out is None:
        raise UsageError("no run to resume; use --resume DIR with the folder of a run")
    if not isinstance(arguments.resume, str):
        return None
    if arguments.out is not None and arguments.out.resolve() != Path(arguments.resume).resolve():
        raise UsageError(f"--resume {arguments.resume} and --out {arguments.out} are different folders; give one")
    return Path(arguments.resume)


def with_data_of_run(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings of a run with the place where its data can be found again from this working folder."""
    from gmmrec.runs.status import read_status

    status = read_status(folder)
    path = None if status is None else status.data
    kept = {name: value for name, value in (values.get("data") or {}).items() if name != "path"}
    return {**values, "data": kept if path is None else {**kept, "path": path}}


def chosen_model(arguments: argparse.Namespace, named: Any) -> tuple[Any, list[Any]]:
    """Return the class of the model, and all classes named on the command line.

    Raises:
        UsageError: No model is named, or its class comes from outside and is not named on the command line.
    """
    from gmmrec.models.lookup import find_model, stored_model

    allow_working_folder(arguments.model_names)
    typed = [find_model(name) for name in arguments.model_names]
    if typed:
        return typed[0], typed
    if not named:
        raise UsageError("no model given; use -m MODEL with a name listed by 'gmmrec models', or -m module:Class")
    return stored_model(str(named)), typed


def new_folder(name: str) -> Path:
    """Return a new folder below ``runs``, named after the data, the model and the time."""
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = stem, 1
    while folder.exists():
        folder, number = stem.with_name(f"{stem.name}-{number}"), number + 1
    return folder
