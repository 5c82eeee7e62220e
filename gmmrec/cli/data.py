"""``gmmrec data describe``, ``gmmrec data convert`` and, with :mod:`gmmrec.cli.features`, ``gmmrec data features``."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmmrec.cli import features
from gmmrec.cli.settings import describe_flags, expand
from gmmrec.safety.names import visible

if TYPE_CHECKING:
    from gmmrec.data.dataset import Dataset
    from gmmrec.data.describe import Degrees, Description
    from gmmrec.data.overlap import Overlap

LAYOUTS = ("folder", "mmrec", "atomic")


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``data`` with its commands."""
    parser = subparsers.add_parser("data", help="describe or convert a data set, extract features", allow_abbrev=False)
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)

    about = commands.add_parser("describe", help="print statistics of a data set", allow_abbrev=False)
    _add_source(about)
    about.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    about.set_defaults(run=lambda arguments: describe(_load(arguments), as_json=arguments.json))

    to = commands.add_parser("convert", help="convert a data set to another layout", allow_abbrev=False)
    _add_source(to)
    to.add_argument("--to", choices=LAYOUTS, required=True, help="target layout")
    to.add_argument("--out", metavar="DIR", type=Path, required=True, help="output folder")
    to.add_argument("--overwrite", action="store_true", help="replace a folder that gmmrec wrote")
    to.set_defaults(run=lambda arguments: convert(arguments))

    made = commands.add_parser("features", help="extract features of items or entities from pictures or texts", allow_abbrev=False)
    _add_source(made)
    features.add_arguments(made)
    made.set_defaults(run=lambda arguments: features.run(_load(arguments), arguments))


def describe(dataset: "Dataset", *, as_json: bool = False) -> int:
    """Print statistics of a data set."""
    from gmmrec.data.describe import describe as describe_dataset

    figures = describe_dataset(dataset)
    print(json.dumps(asdict(figures), indent=2) if as_json else visible(table(figures)))
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Write a data set in another layout and print where."""
    from gmmrec.data import write
    from gmmrec.storage.whole_folder import check_replaceable

    check_replaceable(arguments.out, "data", overwrite=arguments.overwrite)  # before the reading, which may take long
    writer = {"folder": write.write_folder, "mmrec": write.write_mmrec, "atomic": write.write_atomic}[arguments.to]
    dataset = _load(arguments)
    folder = writer(dataset, arguments.out, overwrite=arguments.overwrite)
    print(f"wrote {len(dataset.interactions):,} interactions to {folder}")
    return 0


def table(figures: "Description") -> str:
    """Return the statistics as aligned lines."""
    rows: list[tuple[str, Any]] = [
        ("name", figures.name),
        ("users", f"{figures.users:,}" + (f" ({figures.inactive_users:,} without interactions)" if figures.inactive_users else "")),
        ("items", f"{figures.items:,} ({figures.cold_items:,} cold)"),
        ("interactions", f"{figures.interactions:,} ({figures.density:.3%} of all pairs)"),
        ("per user", _spread(figures.user_degrees)),
        ("per item", _spread(figures.item_degrees)),
        ("repeated pairs", f"{figures.duplicates:,}"),
        ("time", _times(figures)),
        ("weight", "{:g} to {:g}".format(*figures.weight_range) if figures.weight_range else "none"),
        ("split", ", ".join(f"{n:,} {part}" for part, n in figures.split.items()) if figures.split else "none"),
    ]
    if figures.knowledge is not None:
        rows.append(("knowledge", ", ".join(f"{count:,} {what}" for what, count in figures.knowledge.items())))
    if figures.reviews is not None:
        rows.append(("reviews", f"of {figures.reviews:.1%} of the interactions, {figures.words:,} different words"))
    rows += [(f"modality {name}", f"{figures.dims[name]} wide, {share:.1%} present") for name, share in figures.modalities.items()]
    rows += [(f"{node_type} attributes", ", ".join(columns)) for node_type, columns in figures.attributes.items()]
    rows += [(f"{found.node_type} ids of {found.table}", _meeting(found)) for found in figures.overlaps]
    rows += [(f"not read of {name}", ", ".join(columns)) for name, columns in figures.unread.columns.items()]
    rows += [("not read", ", ".join(figures.unread.files))] if figures.unread.files else []
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def _times(figures: "Description") -> str:
    if figures.first_time is None:
        return "none"
    span = f"{figures.first_time} to {figures.last_time}"
    return span if figures.has_dates else f"{span}, an order without dates"


def _spread(degrees: "Degrees") -> str:
    return f"{degrees.least:,} to {degrees.most:,}, median {degrees.median:g}"


def _meeting(found: "Overlap") -> str:
    share = found.common / max(1, found.other_ids)
    return f"{found.common:,} of {found.ids:,} occur in {found.other}, {share:.1%} of its {found.other_ids:,}"


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--data", metavar="DATA", required=True, help="data set: a folder, a table file or a bundled name")
    describe_flags(parser, "data")


def _load(arguments: argparse.Namespace) -> "Dataset":
    """Load the data set as it is; repeated pairs are kept by default."""
    from gmmrec.config import read_settings
    from gmmrec.data.load import DataConfig, load_dataset

    flags = ["--data.path", arguments.data, *expand(arguments.flags)]
    settings = read_settings({"data": DataConfig}, {"data": {"duplicates": "keep"}}, flags, prog=arguments.prog)
    return load_dataset(settings["data"])
