"""Nested dataclasses of tensors as flat dictionaries, which safetensors can hold."""

import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor

T = TypeVar("T")


def packed(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a dataclass by dotted name; what is None is left out.

    >>> import torch
    >>> from gmmrec.data.triples import Triples
    >>> row = torch.tensor([1])
    >>> sorted(packed(Triples(row, row, row, row), "triples."))
    ['triples.head', 'triples.part', 'triples.relation', 'triples.tail']
    """
    found: dict[str, Tensor] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, Tensor):
            found[f"{prefix}{field.name}"] = part.contiguous()
        elif is_dataclass(part):
            found |= packed(part, f"{prefix}{field.name}.")
    return found


def unpacked(kind: type[T], tensors: dict[str, Tensor], prefix: str = "") -> T | None:
    """What :func:`packed` made, or None if nothing is there.

    Args:
        kind: The dataclass; its fields are tensors, such dataclasses, or None.
        tensors: By dotted name.
        prefix: What the names of its fields begin with.
    """
    if not any(name.startswith(prefix) for name in tensors):
        return None
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        nested = next((option for option in options if is_dataclass(option)), None)
        full = f"{prefix}{name}"
        values[name] = tensors.get(full) if nested is None else unpacked(nested, tensors, f"{full}.")  # type: ignore[arg-type]
    return kind(**values)
