"""Choices by name: tables of builders and settings with few values; both reject unknown names."""

import difflib
from collections.abc import Collection
from typing import Any, TypeVar, get_args

from gmmrec.errors import UsageError

T = TypeVar("T")


class Table(dict[str, T]):
    """Builders by name that rejects an unknown name in one sentence.

    ``in``, ``get`` and the order of the names are those of a dictionary.

    Args:
        kind: Name of an entry in the error message, such as ``"fusion"``.
        entries: Builders by name.

    >>> folds = Table("fold", {"mean": max, "sum": sum})
    >>> folds["sum"]([1, 2])
    3
    >>> folds["maen"]
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: unknown fold 'maen'; the nearest known name is 'mean'
    """

    def __init__(self, kind: str, entries: dict[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise unknown_name(self.kind, name, self)


def unknown_name(kind: str, name: str, known: Collection[str]) -> UsageError:
    """Return the error for an unknown name.

    >>> unknown_name("decoder", "mpl", ["bilinear", "mlp"])
    UsageError("unknown decoder 'mpl'; the nearest known name is 'mlp'")
    """
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    return UsageError(f"unknown {kind} {name!r}; the nearest known name is {(nearest or ['none'])[0]!r}")


def check_choice(literal: Any, **values: object) -> None:
    """Check that every value is one of the options of a ``Literal``.

    >>> from typing import Literal
    >>> check_choice(Literal["mean", "max"], pool="maen")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: pool must be 'mean' or 'max', but is 'maen'
    """
    choices = get_args(literal)
    for name, value in values.items():
        if value not in choices:
            known = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
            raise UsageError(f"{name} must be {known}, but is {value!r}")
