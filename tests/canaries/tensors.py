"""All tensors of an object, by where they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

PLAIN = (bool, int, float, str, bytes, type(None))


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield tensors, arrays and plain values with their paths."""
    yield from _walk(value, name, set())


def _walk(value: Any, name: str, above: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            value = value.coalesce() if value.layout == torch.sparse_coo else value.to_sparse_coo().coalesce()
            yield f"{name}.indices", value.indices()
            value = value.values()
        yield name, value.as_tensor() if hasattr(value, "as_tensor") else value
    elif isinstance(value, (np.ndarray, *PLAIN)):
        yield name, value
    elif id(value) not in above:
        inside = above | {id(value)}
        for key, child in _children(value):
            yield from _walk(child, f"{name}.{key}", inside)


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, HeteroData):
        for kind in (*value.node_types, *value.edge_types):
            yield kind, dict(value[kind].items())
    elif isinstance(value, nn.Module):
        yield from ((key, child) for key, child in vars(value).items() if key != "training")
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, Sequence | set | frozenset):
        yield from enumerate(sorted(value, key=str) if isinstance(value, set | frozenset) else value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif type(value).__module__.startswith("gmmrec") and hasattr(value, "__dict__"):
        yield from vars(value).items()


def assert_same_bits(first: Any, second: Any) -> int:
    """Fail with the paths of all values that differ in any bit; return how many were compared."""
    one, other = dict(tensors(first)), dict(tensors(second))
    assert one.keys() == other.keys()
    different = [name for name, value in one.items() if not same_bits(value, other[name])]
    assert not different, different
    return len(one)


def same_bits(one: Any, other: Any) -> bool:
    """Return whether two values are of one type and shape and equal in every bit, NaN included."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.detach().cpu(), other.detach().cpu()
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return torch.equal(*(x.contiguous().flatten().view(torch.uint8) if x.numel() else x for x in (one, other)))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    return type(one) is type(other) and (one == other or repr(one) == repr(other))
