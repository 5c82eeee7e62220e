"""Nested dataclasses of tensors as flat dictionaries, as safetensors stores them."""

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from gmmrec.errors import DataError
from gmmrec.safety.tensors import read_tensors

T = TypeVar("T")


def packed(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a dataclass by dotted name, without fields that are None.

    >>> import torch
    >>> from gmmrec.data.triples import Triples
    >>> row = torch.tensor([1])
    >>> sorted(packed(Triples(row, row, row, row), "triples."))
    ['triples.head', 'triples.part', 'triples.relation', 'triples.tail']
    """
    tensors: dict[str, Tensor] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if isinstance(content, Tensor):
            tensors[f"{prefix}{field.name}"] = content.contiguous()
        elif is_dataclass(content):
            tensors |= packed(content, f"{prefix}{field.name}.")
    return tensors


def unpacked(kind: type[T], tensors: dict[str, Tensor], prefix: str = "") -> T | None:
    """Rebuild a dataclass from the dictionary of :func:`packed`; None if no name begins with the prefix.

    Args:
        kind: Dataclass whose fields are tensors, such dataclasses, or None.
        tensors: Tensors by dotted name.
        prefix: Prefix of the names of its fields.

    Raises:
        DataError: A tensor is missing or unknown, or those of one dataclass do not fit each other; the message is the clause that
            follows the name of the file.
    """
    if not any(name.startswith(prefix) for name in tensors):
        return None
    values: dict[str, Any] = {}
    known: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        nested = next((option for option in options if is_dataclass(option)), None)
        full = f"{prefix}{name}"
        values[name] = tensors.get(full) if nested is None else unpacked(nested, tensors, f"{full}.")  # type: ignore[arg-type]
        if values[name] is None and type(None) not in options:
            raise DataError(f"{full!r} is missing")
        known |= {other for other in tensors if other == full or (nested is not None and other.startswith(f"{full}."))}
    odd = next((name for name in tensors if name.startswith(prefix) and name not in known), None)
    if odd is not None:
        raise DataError(f"{odd[:60]!r} is unknown")
    return kind(**values)


def read_packed(kind: type[T], path: Path, what: str, remedy: str, check: Callable[[T], None] = lambda value: None) -> T:
    """Rebuild a dataclass from a safetensors file of the dictionary of :func:`packed`.

    Args:
        kind: The dataclass.
        path: The file.
        what: Description of the file, such as ``"a saved split"``.
        remedy: Advice; the end of messages.
        check: Further check of the dataclass; its errors get the name of the file.

    Raises:
        UsageError: The file is damaged.
    """
    tensors, _ = read_tensors(path, what, remedy)
    try:
        value = unpacked(kind, tensors)
        if value is None:
            raise DataError("it is empty")
        check(value)
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:  # whatever shapes break in a constructor
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from None
    return value
