"""Model classes and their names: ours, those of installed packages, and any class that a caller hands in or names.

A name is that of our table, that of an entry point in the group ``gmmrec.models``, or ``module:Class``. Names that a caller types
may be imported; names that stand in a file are not, unless the table or an entry point has them (:func:`stored_model`).
"""

import difflib
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FunctionType
from typing import Any

from gmmrec.abilities import AcceptsParts, offered, offers
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models import MODELS
from gmmrec.recommender import AnyRecommender, Recommender

GROUP = "gmmrec.models"
"""Entry points of this group name model classes of other packages."""


def class_path(model_class: type | FunctionType) -> str:
    """Return where a class or a function is defined, as ``module:Name``.

    >>> class_path(EntryPoint)
    'importlib.metadata:EntryPoint'
    """
    return f"{model_class.__module__}:{model_class.__qualname__}"


def name_of(model_class: type) -> str:
    """Return the shortest name by which a class can be found again."""
    path = class_path(model_class)
    declared = (point.name for point in _entry_points() if point.value.replace(" ", "") == path)
    return MODELS.name_of(model_class) or next(declared, path)


def find_model(name: str | type[AnyRecommender]) -> type[AnyRecommender]:
    """Return the class that a caller named: a class itself, one of our names, an entry point, or ``module:Class``.

    Raises:
        ValueError: There is no such model; the message gives the nearest name.
        TypeError: This is no model class.
    """
    if not isinstance(name, str):
        return _checked(name, getattr(name, "__name__", repr(name)))
    if ":" in name:
        return _checked(_imported(name), name)
    found = _declared(name)
    if found is None:
        known = [*MODELS, *(point.name for point in _entry_points())]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown model {name!r}; the nearest known name is {nearest!r}, and a class of your own is module:Class")
    return found


def stored_model(name: str, given: Iterable[type[AnyRecommender]] = ()) -> type[AnyRecommender]:
    """Return the class whose name stands in a file; nothing is imported for it but our modules and declared entry points.

    Args:
        name: What :func:`name_of` gave when the file was written.
        given: Classes that the caller vouches for.

    Raises:
        ValueError: The class is not ours, not declared and not given.
    """
    for model_class in given:
        if name in (name_of(model_class), class_path(model_class)):
            return _checked(model_class, name)
    found = None if ":" in name else _declared(name)
    if found is None:
        handed = f", not {' or '.join(map(class_path, given))}" if given else ""
        raise ValueError(
            f"the model is of the class {name}, which comes from outside gmmrec and is not imported by its name alone; "
            f"pass that class{handed}: model_class=… in Python, or -m {name if ':' in name else 'module:Class'} on the command line"
        )
    return found


def build_model(
    model_class: type[AnyRecommender], schema: GraphSchema, config: Any, parts: Mapping[str, Any] | None = None
) -> AnyRecommender:
    """Return a model with initial weights, built with parts of the caller's own where there are any.

    Raises:
        ValueError: The model takes no parts, or none of these roles.
    """
    if not parts:
        return model_class(schema, config)
    if not offers(model_class, AcceptsParts):
        raise ValueError(f"{name_of(model_class)} takes no parts of your own; use graph-fusion, or leave parts out")
    with_parts: type[Any] = model_class
    built: AnyRecommender = with_parts.with_parts(schema, config, parts)
    return built


def part_paths(model: AnyRecommender) -> dict[str, str]:
    """Return where the parts of the caller's own that a model was built with are defined, by role.

    Raises:
        ValueError: A part has no name by which it could be handed in again.
    """
    built = offered(model, AcceptsParts)
    return {} if built is None else {role: _part_path(role, part) for role, part in built.own_parts.items()}


def given_parts(path: Path, wanted: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that a stored model was built with, from those that the caller vouches for.

    Args:
        path: The file of the model, for messages.
        wanted: Paths by role, as :func:`part_paths` gave them.
        given: Parts by role.

    Raises:
        ValueError: A part is missing, or another one than the model was built with.
    """
    found = {}
    for role, name in wanted.items():
        if role not in given:
            raise ValueError(
                f"{path} holds a model with the {role} {name}, which is not imported by its name alone; "
                f"pass it: parts={{{role!r}: …}} in Python, or --module {role}={name} on the command line"
            )
        if class_path(given[role]) != name:
            raise ValueError(f"{path} was trained with the {role} {name}, but {class_path(given[role])} is given; pass the former")
        found[role] = given[role]
    return found


def _part_path(role: str, part: Any) -> str:
    path = class_path(part) if isinstance(part, type | FunctionType) else ""
    if not path or "<" in path.replace("<locals>", ""):
        raise ValueError(f"the part {role!r} has no name by which it could be handed in again; give a class or a named function")
    return path


def _declared(name: str) -> type[AnyRecommender] | None:
    """The class of the table or of an entry point."""
    if name in MODELS:
        return MODELS[name]
    for point in _entry_points():
        if point.name == name:
            try:
                return _checked(point.load(), f"the entry point {name!r}")
            except (ImportError, AttributeError) as error:
                raise ValueError(f"the entry point {name!r} ({point.value}) cannot be loaded: {error}; mend its package") from None
    return None


def _entry_points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found = import_module(module)
    except ImportError as error:
        raise ValueError(f"cannot import {module!r} for the model {path!r}: {error}; check the name and the folder") from None
    try:
        return reduce(getattr, name.split("."), found)
    except AttributeError:
        classes = [each for each, value in vars(found).items() if isinstance(value, type) and issubclass(value, Recommender)]
        known = ", ".join(each for each in classes if each != "Recommender") or "none"
        raise ValueError(f"module {module!r} has no class {name!r}; its models are {known}") from None


def _checked(found: Any, name: str) -> type[AnyRecommender]:
    if not (isinstance(found, type) and issubclass(found, Recommender)) or found is Recommender:
        raise TypeError(f"{name} is no model class; expected a subclass of Recommender[Query, Config]")
    return found
