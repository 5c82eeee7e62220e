"""Settings: checks that configuration dataclasses call in ``__post_init__``, and the parser that fills such dataclasses.

The parser is jsonargparse; this module adds sections and error messages.
"""

import difflib
import re
from argparse import ArgumentError
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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
        if not value > 0:
            raise UsageError(f"{name} must be greater than 0, but is {value}")


def check_non_negative(**fields: float) -> None:
    """Check that every field is zero or more.

    >>> check_non_negative(l2=-1)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: l2 must be 0 or more, but is -1
    """
    for name, value in fields.items():
        if not value >= 0:
            raise UsageError(f"{name} must be 0 or more, but is {value}")


def check_probability(**fields: float) -> None:
    """Check that every field lies in [0, 1].

    >>> check_probability(dropout=1.5)
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: dropout must lie between 0 and 1, but is 1.5
    """
    for name, value in fields.items():
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must lie between 0 and 1, but is {value}")


def check_choice(choices: Collection[Any], **fields: Any) -> None:
    """Check that every field is one of the choices; for fields declared as ``Literal``, use :func:`check_literals`.

    >>> check_choice(("mean", "sum"), pooling="max")
    Traceback (most recent call last):
    ...
    gmmrec.errors.UsageError: pooling must be one of 'mean', 'sum', but is 'max'
    """
    for name, value in fields.items():
        if value not in choices:
            raise UsageError(f"{name} must be one of {', '.join(map(repr, choices))}, but is {value!r}")


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
    return section(**{**values, **{name: tuple(values[name]) for name in as_tuple}})


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
    parser, arguments = settings_parser(sections, prog=prog), bracketed(sections, arguments)
    known = [f"{name}.{field}" for name, section in sections.items() for field in (f.name for f in fields(section))]
    for name, section_values in values.items():
        for field in section_values if isinstance(section_values, Mapping) else ():
            if f"{name}.{field}" not in known:
                raise unknown_setting(f"{name}.{field}", known)
    for argument in arguments:
        flag = argument[2:].split("=")[0]
        if argument.startswith("--") and flag not in known and flag not in sections:
            raise unknown_setting(flag, known)
    try:
        filled = parser.parse_args(list(arguments), namespace=parser.parse_object(dict(values)))
        instances = parser.instantiate(filled)
    except ArgumentError as error:
        raise UsageError(_in_one_sentence(str(error))) from None
    return {name: instances[name] for name in sections}


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
    return f"setting {found[1]!r} must be {found[2]}, but is {found[3]!r}" if found else message
