"""Cases of command lines: every command with any of its flags, right, odd or unknown."""

import argparse
from collections.abc import Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from gmmrec.cli.main import COMMANDS
from tests.fuzz.case import Case
from tests.fuzz.runs import EPOCHS, QUICK, TRAINED, data_files, templates
from tests.fuzz.settings import settings_of
from tests.fuzz.values import CELLS, NUMBERS

PLACES = (
    "run",
    "other",
    "data",
    "nowhere",
    "data/items.csv",
    "run/run.json",
    "",
    ".",
    "new/deep",
    "a\nb",
    "x" * 300,
    "data/interactions.csv",
)
FILES = ("out.csv", "out.json", "out.txt", "out", "run/run.json", "new/out.csv", "out.png", "out.html", "", "data", "out.parquet")
IDS = ("u0", "u0,u3", "i0", "i1,i2", "u9", "", ",", "i0,i0", "0", " u0 ", "é")
CLASSES = (
    "popularity",
    "ease",
    "lightgcn",
    "os:path",
    "nowhere:Class",
    "x:y:z",
    "",
    ":",
    "json:JSONDecoder",
    "gmmrec.models:MODELS",
    "torch:nn",
)
TEXTS = (
    "title",
    "item",
    "image",
    "recall@2",
    "ndcg@0",
    "rmse",
    "cold items",
    "all",
    "1,2",
    "0.5,0.5",
    "nan,1",
    "5,10",
    "0",
    "fusion=os:path",
)
SLOW = {"doctor", "features"}
"""Commands left out: one measures the machine, the other loads encoders."""
WITHOUT = {"--help", "--version", "--debug"}


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command, by its words."""
    top = argparse.ArgumentParser()
    subparsers = top.add_subparsers()
    for command in COMMANDS:
        command.add_commands(subparsers)
    found: dict[str, argparse.ArgumentParser] = {}

    def collect(action: "argparse._SubParsersAction[argparse.ArgumentParser]", words: str) -> None:
        for name, parser in action.choices.items():
            inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
            for each in inner:
                collect(each, f"{words}{name} ")
            if not inner and name not in SLOW:
                found[words + name] = parser

    collect(subparsers, "")
    return found


@st.composite
def command_cases(draw: st.DrawFn) -> Case:
    """A command with some of its flags."""
    words = draw(st.sampled_from(sorted(parsers())))
    parser = parsers()[words]
    arguments: list[str] = []
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if flag not in WITHOUT]
        if not action.option_strings:
            count = draw(st.integers(1, 3)) if action.nargs == "+" else 1
            arguments += [draw(st.sampled_from(("run", "other", "run", "other", *PLACES))) for _ in range(count)]
        elif flags and draw(st.integers(0, 9)) < (9 if action.required else 3):
            flag = draw(st.sampled_from(flags))
            value = [] if action.nargs == 0 else [draw(_values(action))]
            arguments += [f"{flag}={value[0]}"] if value and flag.startswith("--") and draw(st.booleans()) else [flag, *value]
    if parser.get_default("takes_settings"):
        arguments += draw(_setting_flags(words))
    if words == "train":
        arguments = [*arguments, *QUICK, *EPOCHS[:2]]
    if draw(st.integers(0, 9)) == 0:
        arguments.insert(
            draw(st.integers(0, len(arguments))), draw(st.sampled_from(("--nothing", "-x", "--", "extra", "--help", *CELLS)))
        )
    model, other = draw(st.sampled_from(sorted(templates()))), draw(st.sampled_from(sorted(TRAINED)))
    files = {f"run/{path}": content for path, content in templates()[model].items()}
    files |= {f"other/{path}": content for path, content in templates()[other].items()}
    clean = [argument.replace("\x00", "") for argument in (*words.split(), *arguments)]
    return Case(files | data_files(), {"arguments": clean})


def _values(action: argparse.Action) -> st.SearchStrategy[str]:
    """Values of a flag: mostly of its type, at times anything."""
    flag = action.option_strings[-1]
    right: Sequence[Any] = TEXTS
    if action.choices is not None:
        right = [str(choice) for choice in action.choices]
    elif action.type in (int, float):
        right = [str(n) for n in (1, 2, 3, 10, 0, -1)]
    elif flag in ("--data",):
        right = ("data",) * 8 + PLACES
    elif "out" in flag or "page" in flag:
        right = FILES
    elif action.metavar in ("DIR", "FOLDER", "FILE", "RUN"):
        right = PLACES
    elif flag in ("--users", "--user", "--items", "--item", "--history", "--head", "--tail", "--relation"):
        right = IDS
    elif "model" in flag or flag == "--module":
        right = CLASSES[:3] * 3 + CLASSES
    return st.sampled_from(tuple(right) * 4 + tuple(str(n) for n in NUMBERS[:14]) + CELLS)


@st.composite
def _setting_flags(draw: st.DrawFn, words: str) -> list[str]:
    """Settings of the sections that a command has, with odd values."""
    found: list[str] = []
    sections = {"train": ("data", "split", "graph", "eval", "model"), "graph": ("data", "split", "graph")}.get(words, ("data",))
    known = [(section, field) for section, field in settings_of("lightgcn") if section in sections and field != "path"]
    for _ in range(draw(st.integers(0, 2))):
        section, field = draw(st.sampled_from(known))
        value = draw(
            st.sampled_from(("1", "2", "0.5", "none", "null", "true", "image", "[]", "random", "by_time", "title", *CELLS[:40]))
        )
        found += [f"--{section}.{field}", value]
    return found
