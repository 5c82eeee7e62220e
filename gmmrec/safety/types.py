"""Types of settings from files, by the annotations of their dataclass."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gmmrec.errors import UsageError


def check_fields(section: type, values: Any, where: str) -> None:
    """Check that plain data from a file can be the fields of a dataclass: known names, and values of the annotated types.

    Lists stand for tuples, and mappings for dataclasses. Types other than those of settings are not checked.

    Args:
        section: The dataclass.
        values: Values by field.
        where: Source of the values, for messages.

    Raises:
        UsageError: The values are no mapping, a name is unknown, or a value has another type.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Settings:
    ...     dim: int = 8
    >>> check_fields(Settings, {"dim": "wide"}, "config.yaml")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: config.yaml has 'wide' for 'dim', but it must be int; the file was changed since
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} must hold settings by name, but holds {str(values)[:40]!r}; the file was changed since")
    known, hints = [each.name for each in fields(section)], get_type_hints(section)
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{where} has the unknown setting {str(name)[:40]!r}; the file was changed since")
        if not conforms(hints[name], value):
            kind = getattr(hints[name], "__name__", None) if isinstance(hints[name], type) else None
            expected = kind or str(hints[name]).replace("typing.", "")
            raise UsageError(f"{where} has {str(value)[:40]!r} for {name!r}, but it must be {expected}; the file was changed since")


def conforms(annotation: Any, value: Any) -> bool:
    """Return whether plain data can be a value of an annotated type.

    >>> conforms(int | None, None), conforms(tuple[int, ...], [1, "2"]), conforms(float, 3), conforms(int, True)
    (True, False, True, False)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(conforms(kind, value) for kind in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if annotation in (None, NoneType):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation in (int, float):
        is_number = isinstance(value, int if annotation is int else (int, float)) and not isinstance(value, bool)
        return is_number and (isinstance(value, float) or -(2**63) <= value < 2**63)
    if annotation in (str, Path):
        return isinstance(value, str | Path)
    if origin is tuple and arguments and Ellipsis not in arguments:
        is_list = isinstance(value, list | tuple) and len(value) == len(arguments)
        return is_list and all(map(conforms, arguments, value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            conforms(arguments[0], key) and conforms(arguments[1], each) for key, each in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(conforms(arguments[0], each) for each in value)
    if isinstance(annotation, type) and is_dataclass(annotation) and not isinstance(value, annotation):
        try:
            check_fields(annotation, value, "")
        except UsageError:
            return False
    return True
