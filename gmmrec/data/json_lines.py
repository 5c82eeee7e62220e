"""Tables of JSON objects: one object per line, as reviews are distributed, or one list of objects."""

import ast
import json
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, TextIO

import pandas as pd

from gmmrec.errors import DataError

JSON_SUFFIXES = tuple(f".{name}{gz}" for name in ("json", "jsonl", "ndjson") for gz in ("", ".gz"))
CHUNK = 20_000
"""Number of objects turned into columns at once, which bounds the memory taken by dictionaries."""
MOST_KEYS = 1_000
"""Maximum number of different keys, since every key becomes a column."""
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


def read_objects(file: TextIO, name: str) -> pd.DataFrame:
    """Read objects as a table of text, one column per key, as if they stood in a CSV file.

    Numbers and truth values are written as in JSON, lists of texts are joined by commas, and other nested values stay JSON.
    Absent keys, ``null``, ``NaN`` and empty texts are missing. Lines that are Python dictionaries, as in Amazon's data of 2014,
    are read as literals; no code runs.

    Args:
        file: Open text file.
        name: Name of the file, for messages.

    Raises:
        DataError: A line holds no object; the message gives its number.
    """
    objects = iter_objects(file, name)
    chunks: list[pd.DataFrame] = []
    keys: dict[Any, None] = {}
    while chunk := list(islice(objects, CHUNK)):
        keys |= dict.fromkeys(chain.from_iterable(chunk))
        if len(keys) > MOST_KEYS:
            raise DataError(f"{name} has more than {MOST_KEYS:,} different keys, but every object should have the same few; fix it")
        chunks.append(pd.DataFrame({str(key): pd.Series([_text(entry.get(key)) for entry in chunk], dtype="str") for key in keys}))
    if not chunks:
        raise DataError(f"{name} holds no JSON objects; download it again")
    frame: pd.DataFrame = pd.concat(chunks, ignore_index=True)
    return frame


def iter_objects(file: Iterator[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file one by one; see :func:`read_objects`."""
    lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
    first = next(lines, None)
    if first is None:
        return
    if first[1].lstrip().startswith("["):
        yield from _listed("".join(chain([first[1]], file)), name)
        return
    parse = _parser(first[1])
    for number, line in chain([first], lines):
        try:
            entry = parse(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise DataError(
                f"{name} line {number} is not a JSON object ({_reason(error)}), but every line must hold one, or the file one list "
                "of them; fix or delete the line"
            ) from None
        if not isinstance(entry, dict):
            raise DataError(
                f"{name} line {number} holds {_kind(entry)} instead of a JSON object such as "
                '{"user": "a", "item": "b"}; fix or delete the line'
            )
        yield entry


def _parser(first: str) -> Callable[[str], Any]:
    """Return the parser of lines: JSON, or Python literals if the first line is one and not JSON."""
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        try:
            if isinstance(ast.literal_eval(first.strip()), dict):
                return ast.literal_eval
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    return json.loads


def _listed(text: str, name: str) -> Iterator[dict[str, Any]]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{name}{at} is not JSON ({_reason(error)}); fix it or download it again") from None
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise DataError(f"{name} entry {number} is {_kind(entry)} instead of a JSON object; fix or delete it")
        yield entry


def _reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "too deeply nested" if isinstance(error, RecursionError | MemoryError) else str(error).splitlines()[0][:60]


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _text(value: Any) -> str | None:
    """Return a value as a cell of text, None for a missing one."""
    if isinstance(value, str):
        return value or None
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return ", ".join(value) or None
    try:
        return _ENCODE(value)
    except (TypeError, ValueError):  # sets and bytes of Python literals
        return str(value)
