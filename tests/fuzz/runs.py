"""Cases of run folders: damaged, swapped and incomplete ones, and the commands that read them."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gmmrec.cli.main import main
from tests.fuzz.arrays import npz
from tests.fuzz.case import Case
from tests.fuzz.damage import damaged
from tests.fuzz.tables import damaged_bytes
from tests.fuzz.verdict import Fault, command

QUICK = ("--eval.bootstrap", "2", "--eval.ks", "2", "--monitor", "recall@2", "--train.progress", "false")
EPOCHS = ("--train.epochs", "1", "--model.dim", "4", "--train.batch_size", "64")
TRAINED = {"popularity": (), "ease": (), "lightgcn": EPOCHS, "bert4rec": (*EPOCHS, "--split.strategy", "leave_last_out")}
"""Models of the folders, and their flags."""


def data_files() -> dict[str, bytes]:
    """Return a small data folder: six users, seven items with titles and pictures, times, no split."""
    rows = ["user,item,timestamp", *(f"u{u},i{(u + n) % 7},{1500000000 + 10 * u + n}" for u in range(6) for n in range(4))]
    items = ["item,title", *(f"i{n},title {n}" for n in range(7))]
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    return {
        "data/interactions.csv": "\n".join(rows).encode(),
        "data/items.csv": "\n".join(items).encode(),
        "data/image_feat.npz": npz({"ids": np.array([f"i{n}" for n in range(7)]), "values": values}),
    }


@cache
def templates() -> Mapping[str, Mapping[str, bytes]]:
    """Return the files of finished runs, by model, and of a run that was interrupted; made once in a process."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, _working_in(Path(folder)):
        Case(data_files()).lay_out(Path(folder))
        for model, flags in TRAINED.items():
            _quietly("train", "-m", model, "-d", "data", "--out", model, *QUICK, *flags)
        _quietly("blend", "popularity", "ease", "--out", "blend", "--metric", "recall@2", "--weights", "0.4,0.6")
        for name in (*TRAINED, "blend"):
            found[name] = {str(p.relative_to(name)): p.read_bytes() for p in sorted(Path(name).rglob("*")) if p.is_file()}
    started = ("config.yaml", "run.json", "history.csv", "training_state.safetensors")
    found["started"] = {name: content for name, content in found["lightgcn"].items() if name in started and name != "run.json"}
    return found


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _quietly(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        if main(list(arguments)) != 0:
            raise RuntimeError(f"gmmrec {' '.join(arguments)} failed: {errors.getvalue()[-500:]}")


QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("recommend", "run", "--users", "u0,u3", "-k", "2", "--json"),
    ("recommend", "run", "--json"),
    ("recommend", "run", "--history", "i0,i2", "--json"),
    ("recommend", "run", "--include-seen", "-k", "100"),
    ("similar", "run", "--items", "i1,i2", "--json"),
    ("evaluate", "run", "--json"),
    ("evaluate", "run", "--part", "valid", "--eval.ks", "1,3", "--json"),
    ("evaluate", "run", "--eval.num_sampled", "3"),
    ("compare", "run", "other", "--metric", "recall@2", "--json"),
    ("compare", "other", "run", "--metric", "ndcg@2", "--group-seeds"),
    ("blend", "run", "other", "--out", "new", "--metric", "recall@2", "--weights", "1,2", "--json"),
    ("rerank", "run", "other", "--out", "new", "--json"),
    ("explain", "run", "--user", "u0", "--item", "i0", "--json"),
    ("complete", "run", "--items", "i0", "--json"),
    ("train", "--resume", "--out", "run", "-m", "lightgcn", "-d", "data", *QUICK, *EPOCHS, "--train.epochs", "2", "--json"),
    ("train", "--resume", "--out", "run", "--json"),
    ("train", "-m", "popularity", "-d", "data", "--init_from", "run", "--out", "new", *QUICK, "--json"),
)
"""Commands on the folder ``run``, with an untouched folder ``other`` and the folder ``data``."""


@st.composite
def run_cases(draw: st.DrawFn) -> Case:
    """A run folder with one or two files damaged, deleted, swapped, or taken from another run."""
    name = draw(st.sampled_from(sorted(templates())))
    files = dict(templates()[name])
    kind = draw(st.integers(0, 9))
    if kind < 7:
        names = sorted(files)
        chosen = draw(st.sampled_from(names))
        files |= {chosen: b""}
        changed = draw(damaged({chosen: templates()[name][chosen]}))
        del files[chosen]
        files |= changed
    elif kind == 7:
        other = templates()[draw(st.sampled_from(sorted(templates())))]
        chosen = draw(st.sampled_from(sorted(other)))
        files[chosen] = other[chosen]
    elif kind == 8:
        chosen = draw(st.sampled_from(sorted(files)))
        files[chosen] = draw(damaged_text(files[chosen]))
    other = templates()[draw(st.sampled_from(sorted(TRAINED)))]
    question = draw(st.sampled_from(QUESTIONS))
    found = {f"run/{path}": content for path, content in files.items()} | {
        f"other/{path}": content for path, content in other.items()
    }
    return Case(found | data_files(), {"arguments": list(question)})


@st.composite
def damaged_text(draw: st.DrawFn, content: bytes) -> bytes:
    """Change one line of a text file: drop, double or replace it, or the value after its colon or comma."""
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return draw(damaged_bytes(content))
    at = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    else:
        sign = ":" if ":" in lines[at] else ","
        odd = draw(
            st.sampled_from(("", "null", "[]", "{}", "-1", "1e400", ".nan", "x", "10000000000000000000", "!!python/name:os", "&a"))
        )
        lines[at] = lines[at].partition(sign)[0] + sign + " " + odd
    return "\n".join(lines).encode()


def call(case: Case, folder: Path) -> None:
    """Run the command; what it prints must be strict JSON if it was asked for."""
    arguments = list(case.spec["arguments"])
    printed = command(arguments)
    if "--json" in arguments and not {"--help", "-h", "--settings"} & set(arguments):  # these print a help
        try:
            json.loads(printed, parse_constant=_refuse)
        except ValueError as error:
            raise Fault(f"{arguments[0]} printed no JSON: {str(error).split(':')[0]}", printed[:500]) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
