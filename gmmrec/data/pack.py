"""Nested dataclasses of tensors as flat dictionaries, as safetensors stores them."""

import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor

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
