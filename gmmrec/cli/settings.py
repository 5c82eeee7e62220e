"""Flags for settings, shared by all commands that read data: ``--SECTION.FIELD``, and short forms of the common ones."""

import argparse
from collections.abc import Sequence

SHORT = {
    "--split": "--split.strategy",
    "--format": "--data.format",
    "--header": "--data.header",
    "--separator": "--data.separator",
    "--encoding": "--data.encoding",
    "--decimal": "--data.decimal",
    "--user-column": "--data.user_column",
    "--item-column": "--data.item_column",
    "--time-column": "--data.time_column",
    "--weight-column": "--data.weight_column",
    "--split-column": "--data.split_column",
    "--review-column": "--data.review_column",
    "--title-column": "--data.title_column",
    "--duplicates": "--data.duplicates",
    "--min-rating": "--data.min_rating",
    "--k-core": "--data.k_core",
    "--modalities": "--data.modalities",
    "--knn": "--graph.knn",
    "--co-occurrence": "--graph.co_occurrence",
}
"""Settings by the short form of their flag."""


def describe_flags(parser: argparse.ArgumentParser, *sections: str, more: str = "") -> None:
    """Accept settings of these sections as flags of a command, and list their short forms in its help."""
    short = [flag for flag, setting in SHORT.items() if setting[2:].split(".")[0] in sections]
    listed = ", ".join(f"--{section}.FIELD" for section in sections)
    parser.epilog = " ".join(f"Every setting is a flag, {listed}. Short forms: {', '.join(short)}. {more}".split())
    parser.set_defaults(takes_settings=True)


def expand(flags: Sequence[str]) -> list[str]:
    """Return the flags with every short form expanded; underscores in a short form are read as hyphens.

    >>> expand(["--user-column", "who", "--k_core=5", "--train.lr", "0.1"])
    ['--data.user_column', 'who', '--data.k_core=5', '--train.lr', '0.1']
    """
    written = []
    for flag in flags:
        name, equals, value = flag.partition("=")
        name = SHORT.get(name.replace("_", "-"), name) if name.startswith("--") and "." not in name else name
        written.append(name + equals + value)
    return written
