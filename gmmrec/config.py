"""Settings: checks that configuration dataclasses call in ``__post_init__``, and the parser that fills such dataclasses.

The parser is jsonargparse; this module adds sections and error messages.
"""

import difflib
import math
import re
from argparse import ArgumentError
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jsonargparse import ArgumentParser, set_parsing_settings

from gmmrec.errors import UsageError
from gmmrec.renamed import refuse_renamed
from gmmrec.safety.types import check_fields

set_parsing_settings(docstring_parse_attribute_docstrings=True)


ON_RESUME = "on_resume"
"""Key of a field's metadata: None if the setting may change when a run is resumed, or a function from the settings of the run to
the value that counts. Without it, a resumed run must have the same value."""
MAY_CHANGE: Mapping[str, Any] = {ON_RESUME: None}
"""Metadata of a setting that may change when a run is resumed."""


def check_positive(**fields: float) -> None:
    """Check that every field is greater than zero.

    >>> check_positive(dim=64)
    >>> check_positive(dim=0)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: dim must be greater than 0, but is 0
    """
    for name, value in fields.items():
        if not _number(name, value) > 0:
            raise UsageError(f"{name} must be greater than 0, but is {value}")


def check_non_negative(**fields: float) -> None:
    """Check that every field is zero or more.

    >>> check_non_negative(l2=-1)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: l2 must be 0 or more, but is -1
    """
    for name, value in fields.items():
        if not _number(name, value) >= 0:
            raise UsageError(f"{name} must be 0 or more, but is {value}")


def check_probability(**fields: float) -> None:
    """Check that every field lies in [0, 1].

    >>> check_probability(dropout=1.5)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: dropout must lie between 0 and 1, but is 1.5
    """
    for name, value in fields.items():
        if not 0 <= _number(name, value) <= 1:
            raise UsageError(f"{name} must lie between 0 and 1, but is {value}")


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, but is {quoted_value(value)}")
    return value


def check_choice(choices: Collection[Any], **fields: Any) -> None:
    """Check that every field is one of the choices; for fields declared as ``Literal``, use :func:`check_literals`.

    >>> check_choice(("mean", "sum"), pooling="max")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: pooling must be one of 'mean', 'sum', but is 'max'
    """
    for name, value in fields.items():
        if not any(isinstance(value, type(choice)) and value == choice and value is not True for choice in choices):
            raise UsageError(f"{name} must be one of {', '.join(map(repr, choices))}, but is {quoted_value(value)}")


def check_literals(config: Any) -> None:
    """Check that every field of a dataclass annotated with a ``Literal`` holds one of its values.

    The annotation is the only declaration of the values: ``Literal[...]``, an alias of it, ``Literal[...] | None``, and
    tuples, lists and mappings of these.

    >>> from dataclasses import dataclass
    >>> from typing import Literal
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     pooling: Literal["mean", "sum"] | None = None
    ...     def __post_init__(self) -> None:
    ...         check_literals(self)
    >>> Settings("max")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: pooling must be one of 'mean', 'sum', but is 'max'
    """
    annotations = get_type_hints(type(config))
    for field in fields(config):
        _check_annotated(field.name, annotations[field.name], getattr(config, field.name))


def _check_annotated(name: str, annotation: Any, value: Any) -> None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        check_choice(arguments, **{name: value})
    elif origin in (Union, UnionType):
        kinds = [kind for kind in arguments if _holds(kind, value)]
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        if choices and all(get_origin(kind) is Literal for kind in kinds):
            check_choice(choices, **{name: value})
        for kind in kinds:
            if get_origin(kind) is not Literal:
                _check_annotated(name, kind, value)
    elif isinstance(value, Mapping) and len(arguments) == 2:
        for key, entry in value.items():
            _check_annotated(name, arguments[0], key)
            _check_annotated(f"{name}[{key!r}]", arguments[1], entry)
    elif isinstance(value, tuple | list) and arguments:
        kinds = list(arguments) if origin is tuple and Ellipsis not in arguments else [arguments[0]] * len(value)
        for kind, entry in zip(kinds, value, strict=False):
            _check_annotated(name, kind, entry)


def _holds(kind: Any, value: Any) -> bool:
    """Return whether a value matches the form of an annotation: None, a collection, or a single value."""
    container = get_origin(kind) or kind
    if not isinstance(container, type):
        return value is not None and not isinstance(value, tuple | list | Mapping)  # a Literal
    return isinstance(value, container)


def to_plain(value: Any) -> Any:
    """Return settings as plain data for a file: dataclasses become dictionaries, tuples lists, paths text.

    A field with ``metadata={"stored": False}`` is left out.

    >>> to_plain({"ks": (5, 10), "path": Path("a")})
    {'ks': [5, 10], 'path': 'a'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value) if each.metadata.get("stored", True)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


T = TypeVar("T")


def from_plain(section: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return the settings of one section from the plain data of :func:`to_plain`.

    Args:
        section: The dataclass.
        values: Fields by name; those that are missing take their defaults.
        where: Source of the values, for messages.

    Raises:
        UsageError: A field is unknown, or a value is impossible.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Lengths:
    ...     ks: tuple[int, ...] = (5,)
    >>> from_plain(Lengths, {"ks": [1, 2]}, "config.yaml")
    Lengths(ks=(1, 2))
    """
    hints = get_type_hints(section)
    known = [each.name for each in fields(section)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: {unknown_setting(str(name), known)}")
    check_fields(section, values, where)
    as_tuple = [name for name, value in values.items() if isinstance(value, list) and get_origin(hints[name]) is tuple]
    try:
        return section(**{**values, **{name: tuple(values[name]) for name in as_tuple}})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # a value of another type than was written
        reason = " ".join(str(error).split())
        raise UsageError(f"{where}: a value is of a wrong type ({reason}); the file was changed since it was written") from error


def settings_parser(sections: Mapping[str, type], *, prog: str = "gmmrec train") -> ArgumentParser:
    """Return a parser with one flag ``--SECTION.FIELD`` per field, documented by the fields' docstrings."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, usage=f"{prog} [options]")
    for name, section in sections.items():
        parser.add_class_arguments(section, name)
    return parser


def read_settings(
    sections: Mapping[str, type], values: Mapping[str, Any], arguments: Sequence[str] = (), *, prog: str = "gmmrec train"
) -> dict[str, Any]:
    """Fill the dataclasses of sections: defaults, then ``values`` (a YAML file, as nested dictionaries), then ``arguments``.

    Args:
        sections: Dataclass of every section.
        values: Nested settings by section.
        arguments: Flags ``--SECTION.FIELD VALUE``.
        prog: Name of the command in messages.

    Returns:
        One dataclass instance per section.

    Raises:
        UsageError: A setting is unknown (the message gives the nearest known name), has the wrong type or an impossible value.
    """
    known = [f"{name}.{field}" for name, section in sections.items() for field in (f.name for f in fields(section))]
    values = section_values(sections, values)
    for name, given in values.items():
        for field in given:
            if f"{name}.{field}" not in known:
                raise unknown_setting(f"{name}.{field}", known)
    for argument in arguments:
        flag = argument[2:].split("=")[0]
        if argument.startswith("--") and flag not in known and flag not in sections:
            raise unknown_setting(flag, known)
        if len(argument) > LONGEST:
            raise UsageError(f"a setting on the command line has {len(argument)} characters; the most are {LONGEST}")
    parser, arguments = settings_parser(sections, prog=prog), bracketed(sections, arguments)
    try:
        filled = parser.parse_args(list(arguments), namespace=parser.parse_object(values))
    except ArgumentError as error:
        raise UsageError(_in_one_sentence(str(error))) from None
    except (SystemExit, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(
            f"the settings cannot be read: {quoted_value(' '.join(str(error).split()))}; see {prog} --settings"
        ) from error
    hints = {name: get_type_hints(section) for name, section in sections.items()}
    for name, section in sections.items():
        if filled.get(name) is None and fields(section):
            raise UsageError(f"section {name!r} must hold settings by name, but is empty")
        for field in (each.name for each in fields(section)):
            _check_plain(f"{name}.{field}", filled[f"{name}.{field}"], hints[name][field])
    try:
        instances = parser.instantiate(filled)
    except UsageError:
        raise
    except ArgumentError as error:
        raise UsageError(_in_one_sentence(str(error))) from None
    except ValueError as error:  # the refusal of a model from outside
        raise UsageError(" ".join(str(error).split())) from error
    return {name: instances[name] for name in sections}


DEEPEST, MOST, LONGEST = 8, 10_000, 10_000
"""Limits of settings: levels of nesting, values, and characters of a text."""


def section_values(sections: Collection[str], values: Any) -> dict[str, dict[str, Any]]:
    """Return settings by section as plain data: empty sections as empty dictionaries, NumPy's numbers as Python's.

    Raises:
        UsageError: They are not sections of settings, or are nested too deeply, too many or too long.

    >>> section_values(["train"], {"train": None})
    {'train': {}}
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"settings must be sections such as 'train:', but are {quoted_value(values)}")
    budget = [MOST]
    found: dict[str, dict[str, Any]] = {}
    for name, given in values.items():
        if name not in sections:
            raise unknown_setting(str(quoted_value(name)).strip("'"), list(sections))
        if given is not None and not isinstance(given, Mapping):
            raise UsageError(f"section {name!r} must hold settings by name, but is {quoted_value(given)}")
        found[name] = {str(key): _plain(f"{name}.{key}", value, budget) for key, value in (given or {}).items()}
    return found


def _plain(name: str, value: Any, budget: list[int], depth: int = 0) -> Any:
    """Return a value as plain data, after a check of its size."""
    budget[0] -= 1
    if budget[0] < 0 or depth > DEEPEST:
        limit = f"more than {MOST} values" if budget[0] < 0 else f"more than {DEEPEST} levels"
        raise UsageError(f"the settings have {limit}, at {quoted_value(name)}; leave out what is no setting")
    if isinstance(value, str) and len(value) > LONGEST:
        raise UsageError(f"setting {name!r} is a text of {len(value)} characters; the most are {LONGEST}")
    if isinstance(value, Mapping):
        return {key: _plain(name, entry, budget, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, entry, budget, depth + 1) for entry in value]
    _check_size(name, value)
    return value.item() if isinstance(value, np.generic) else value


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"setting {name!r} must be a finite number, but is {value}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f"setting {name!r} must fit into 64 bits, but is {quoted_value(value)}")


def _check_plain(name: str, value: Any, annotation: Any) -> None:
    """Refuse None where a setting has no such value, and numbers that are infinite, undefined or beyond 64 bits."""
    if value is None and not (annotation is Any or type(None) in (annotation, *get_args(annotation))):
        raise UsageError(f"setting {name!r} has no empty value (null, None); leave it out for its default")
    numbers = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        _check_size(name, number)


def quoted_value(value: Any) -> str:
    """Return a value for a message: its literal, or its type and the beginning of it if that is long."""
    try:
        text = " ".join((value if isinstance(value, str) and len(value) > 60 else repr(value)).split())
    except Exception:  # noqa: BLE001 (integers of thousands of digits, nesting of thousands of levels, foreign objects)
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def bracketed(sections: Mapping[str, type], arguments: Sequence[str]) -> list[str]:
    """Return flags with list values, such as ``5,10``, put in the brackets that the parser expects.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Lengths:
    ...     ks: tuple[int, ...] = (5,)
    >>> bracketed({"eval": Lengths}, ["--eval.ks", "5,10"]), bracketed({"eval": Lengths}, ["--eval.ks=5"])
    (['--eval.ks', '[5,10]'], ['--eval.ks=[5]'])
    """
    lists = {
        f"--{name}.{field}"
        for name, section in sections.items()
        for field, kind in get_type_hints(section).items()
        if get_origin(kind) in (tuple, list)
    }
    found = list(arguments)
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in lists:
            continue
        if equals:
            found[position] = f"{flag}={_in_brackets(value)}"
        elif position + 1 < len(found):
            found[position + 1] = _in_brackets(found[position + 1])
    return found


def _in_brackets(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"


def unknown_setting(name: str, known: Collection[str]) -> UsageError:
    """Return the error for an unknown setting.

    Raises:
        UsageError: The setting was renamed; the message gives the new name.

    >>> unknown_setting("train.lrr", ["train.lr", "model.dim"])
    UsageError("unknown setting 'train.lrr'; the nearest known name is 'train.lr'")
    """
    refuse_renamed(name)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    field = name.rsplit(".", 1)[-1]
    same_field = [other for other in known if other.rsplit(".", 1)[-1] == field]
    nearest = (same_field or near or ["none"])[0]
    return UsageError(f"unknown setting {name!r}; the nearest known name is {nearest!r}")


def _in_one_sentence(message: str) -> str:
    message = re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(message.split()))
    message = re.sub(r"typing\.", "", message)
    found = re.search(r'Parser key "([^"]+)": Expected an? (.+?)\. Got value: (.*)', message)
    if found:
        return f"setting {found[1]!r} must be {found[2]}, but is {quoted_value(found[3])}"
    union = r'Parser key "([^"]+)": Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors: .* value: (.*)'
    found = re.search(union, message)
    if found:
        return f"setting {found[1]!r} must be one of {found[2].replace('NoneType', 'None')}, but is {quoted_value(found[3])}"
    return message if len(message) <= 300 else f"{message[:297]}…"
