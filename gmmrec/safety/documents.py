"""JSON and YAML from files that a stranger may have written."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from gmmrec.errors import DataError, MissingFileError, UsageError
from gmmrec.safety.sizes import MIB, check_file

SETTINGS_BYTES = MIB
"""Bytes of the largest file of settings."""
MOST_VALUES = 100_000
"""Values in a file of settings, repeated ones counted as often as they appear."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, remedy: str = "export it again", kind: type | None = None) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        remedy: Advice; the end of the message.
        kind: Type of the content, ``dict`` or ``list``; None for any.

    Raises:
        DataError: The file is too large, or not JSON, or holds something else.
        MissingFileError: There is no such file.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file {str(path)!r}; {remedy}")
    check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged (byte {error.start} is not UTF-8); {remedy}") from None
    return parse_json(text, str(path), remedy, kind)


def parse_json(text: str, where: str, remedy: str = "export it again", kind: type | None = None) -> Any:
    """Return the content of JSON text; see :func:`read_json`.

    >>> parse_json("[" * 100_000, "run.json", "train the run again")
    Traceback (most recent call last):
    ...
    gmmrec.errors.DataError: run.json is damaged (its values are nested too deeply); train the run again
    """
    try:
        found = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be written or printed
    except RecursionError:
        raise DataError(f"{where} is damaged (its values are nested too deeply); {remedy}") from None
    except ValueError as error:
        raise DataError(f"{where} is damaged ({' '.join(str(error).split())[:120]}); {remedy}") from None
    if kind is not None and not isinstance(found, kind):
        expected = "an object" if kind is dict else f"a {kind.__name__}"
        raise DataError(f"{where} is damaged (expected {expected}, found {str(found)[:40]!r}); {remedy}")
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, empty for an empty file.

    Raises:
        UsageError: The file is missing, too large, not YAML, holds no settings, or repeats values without end.
    """
    if not path.is_file():
        raise UsageError(f"settings file {path} does not exist")
    check_file(path, SETTINGS_BYTES)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            if _count(node, {}) > MOST_VALUES:
                raise UsageError(f"{path} repeats its values by aliases more than {MOST_VALUES:,} times; write them out")
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise UsageError(
            f"{path} is not valid YAML: its values are nested too deeply, or within themselves; write them out"
        ) from None
    except UsageError:
        raise
    except (yaml.YAMLError, ValueError, ArithmeticError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold sections such as 'train:', but holds a {type(values).__name__}")
    return values


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values below a node, every alias counted like what it repeats."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # of a node within itself
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [side for pair in node.value for side in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_count(each, known) for each in inner)
    return known[id(node)]
