"""Damage to the files of a folder: their cells, bytes, names and values."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.fuzz.arrays import damaged_headers
from tests.fuzz.tables import Table, damaged_bytes, damaged_tables

Content: TypeAlias = "Table | bytes"


def written(files: Mapping[str, Content]) -> dict[str, bytes]:
    return {name: content.content() if isinstance(content, Table) else content for name, content in files.items()}


@st.composite
def damaged(draw: st.DrawFn, files: Mapping[str, Content]) -> dict[str, bytes]:
    """Damage one file of a folder, at times two: its cells, its bytes, its name or its place."""
    found = dict(files)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
        if not found:
            break
        name = draw(st.sampled_from(sorted(found)))
        content, kind = found[name], draw(st.integers(0, 11))
        if kind == 0:
            del found[name]
        elif kind == 1:
            other = draw(st.sampled_from(sorted(found)))
            found[name], found[other] = found[other], found[name]
        elif kind == 2:
            stem, _, suffix = name.partition(".")
            endings = (
                ".csv",
                ".tsv",
                ".txt",
                ".gz",
                ".parquet",
                ".json",
                ".npy",
                ".npz",
                "",
                f".{suffix}.gz",
                ".inter",
                ".jsonl",
                ".dat",
            )
            found[stem + draw(st.sampled_from(endings))] = found.pop(name)
        elif isinstance(content, Table) and kind < 10:
            found[name] = draw(damaged_tables(content))
        elif name.endswith((".json", ".jsonl")) and kind < 9:
            found[name] = draw(damaged_json(written({name: content})[name]))
        elif name.endswith(".safetensors") and kind < 7:
            found[name] = draw(damaged_headers(written({name: content})[name]))
        else:
            found[name] = draw(damaged_bytes(written({name: content})[name]))
    return written(found)


JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "..",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    [None],
    ["a", 1],
    float("nan"),
)


@st.composite
def damaged_json(draw: st.DrawFn, content: bytes) -> bytes:
    """Change one value somewhere in a JSON file, or drop or double it."""
    try:
        whole = json.loads(content)
    except ValueError:
        return draw(damaged_bytes(content))
    positions: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                positions.append((value, key))
                collect(value[key])

    collect(whole)
    if not positions:
        return json.dumps(draw(st.sampled_from(JSON_VALUES))).encode()
    owner, key = positions[draw(st.integers(0, len(positions) - 1))]
    kind = draw(st.integers(0, 5))
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, list):
        owner.append(owner[key])
    elif kind == 2 and isinstance(owner, dict):
        owner[draw(st.sampled_from(("x", "", "__proto__")))] = owner.pop(key)
    else:
        owner[key] = draw(st.sampled_from(JSON_VALUES))
    return json.dumps(whole).encode()
