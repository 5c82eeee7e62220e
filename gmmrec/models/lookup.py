"""Lookup of model classes by name: built-in models, those of installed packages, and any class that a caller passes or names.

A name is a row of the model table, an entry point in the group ``gmmrec.models``, or ``module:Class``. Only names that a caller
types are imported; a name read from a file must be in the table or an entry point (:func:`stored_model`).
"""

import difflib
import traceback
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FunctionType
from typing import Any

from gmmrec.abilities import AcceptsParts, offered, offers
from gmmrec.errors import UsageError, WrongTypeError
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models import MODELS, installed_models
from gmmrec.recommender import AnyRecommender, Recommender

HOMELESS = ("__main__", "__mp_main__", "builtins")
"""Modules of classes from a notebook, a script or ``exec``, which other processes find under another name."""


def class_path(model_class: type | FunctionType) -> str:
    """Return the path of a class or a function, as ``module:Name``.

    >>> class_path(EntryPoint)
    'importlib.metadata:EntryPoint'
    """
    return f"{model_class.__module__}:{model_class.__qualname__}"


def name_of(model_class: type) -> str:
    """Return the shortest name by which a class can be found again."""
    ours = MODELS.name_of(model_class)
    declared = (point.name for point in installed_models() if ours is None and _declares(point, model_class))
    return ours or next(declared, class_path(model_class))


def find_model(name: str | type[AnyRecommender]) -> type[AnyRecommender]:
    """Return a model class by name: built-in, entry point or ``module:Class``; a class is returned after a check.

    Raises:
        UsageError: The name is unknown or not of a model; the message gives the nearest name.
        WrongTypeError: The object is not a model class.
    """
    if not isinstance(name, str):
        if not _is_model(name):
            raise WrongTypeError(f"{getattr(name, '__name__', repr(name))} is no model class; {EXPECTED}")
        return name
    if ":" in name:
        return _checked(find_part(name), name)
    found = _declared(name)
    if found is None:
        known = [*MODELS, *(point.name for point in installed_models())]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UsageError(f"unknown model {name!r}; the nearest known name is {nearest!r}, and a class of your own is module:Class")
    return found


def stored_model(name: str, given: Iterable[type[AnyRecommender]] = ()) -> type[AnyRecommender]:
    """Return the class that a file names; imports only built-in models and declared entry points.

    Args:
        name: Name from :func:`name_of` at the time of writing.
        given: Classes that the caller trusts.

    Raises:
        UsageError: The class is not built-in, declared or given.
    """
    for model_class in given:
        if name == name_of(model_class) or _same(name, class_path(model_class)):
            return find_model(model_class)
    found = None if ":" in name else _declared(name)
    if found is None:
        handed = f", not {' or '.join(map(class_path, given))}" if given else ""
        typed = name if ":" in name and name.partition(":")[0] not in HOMELESS else "module:Class"
        raise UsageError(
            f"the model is of the class {name}, which comes from outside gmmrec and is not imported by its name alone; "
            f"pass that class{handed}: model_class=… in Python, or -m {typed} on the command line"
        )
    return found


def build_model(
    model_class: type[AnyRecommender], schema: GraphSchema, config: Any, parts: Mapping[str, Any] | None = None
) -> AnyRecommender:
    """Return a model with initial weights, with custom parts if given.

    Raises:
        UsageError: The model takes no parts, or none of these roles.
    """
    if not parts:
        return model_class(schema, config)
    if not offers(model_class, AcceptsParts):
        raise UsageError(f"{name_of(model_class)} takes no parts of your own; use graph-fusion, or leave parts out")
    with_parts: type[Any] = model_class
    built: AnyRecommender = with_parts.with_parts(schema, config, parts)
    return built


def part_paths(model: AnyRecommender) -> dict[str, str]:
    """Return the paths of a model's custom parts, by role.

    Raises:
        UsageError: A part has no importable name.
    """
    built = offered(model, AcceptsParts)
    return {} if built is None else {role: part_path(role, part) for role, part in built.custom_parts.items()}


def part_names(model: AnyRecommender) -> dict[str, str]:
    """Return the paths of a model's custom parts, by role, or the ``repr`` of parts without an importable name."""
    built = offered(model, AcceptsParts)
    own = {} if built is None else built.custom_parts
    return {role: class_path(part) if _has_name(part) else repr(part) for role, part in own.items()}


def given_parts(path: Path, stored: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the custom parts of a stored model, taken from those that the caller trusts.

    Args:
        path: The file of the model, for messages.
        stored: Paths by role, from :func:`part_paths`.
        given: Parts by role; a list if several models have a part of that role.

    Raises:
        UsageError: A part is missing, or differs from the one that the model was built with.
    """
    found = {}
    for role, name in stored.items():
        handed = given.get(role, ())
        handed = handed if isinstance(handed, list | tuple) else [handed]
        if not handed:
            raise UsageError(
                f"{path} holds a model with the {role} {name}, which is not imported by its name alone; "
                f"pass it: parts={{{role!r}: …}} in Python, or --module {role}={name} on the command line"
            )
        fitting = [part for part in handed if _same(name, part_path(role, part))]
        if not fitting:
            others = " and ".join(part_path(role, part) for part in handed)
            raise UsageError(f"{path} was trained with the {role} {name}, but {others} is given; pass the former")
        found[role] = fitting[0]
    return found


def part_path(role: str, part: Any) -> str:
    """Return the path of a part, as ``module:Name``.

    Raises:
        UsageError: The part has no importable name.
    """
    if not _has_name(part):
        raise UsageError(
            f"the part {role!r} has no name by which it could be handed in again to load the run; give a class or a named "
            "function, or leave out the folder"
        )
    return class_path(part)


def _has_name(part: Any) -> bool:
    return isinstance(part, type | FunctionType) and "<lambda>" not in part.__qualname__


def _declared(name: str) -> type[AnyRecommender] | None:
    """Return the class that the table or an entry point declares, or None."""
    if name in MODELS:
        return MODELS[name]
    for point in installed_models():
        if point.name == name:
            try:
                return _checked(point.load(), f"the entry point {name!r}")
            except (ImportError, AttributeError) as error:
                raise UsageError(f"the entry point {name!r} ({point.value}) cannot be loaded: {error}; mend its package") from None
    return None


def find_part(path: str) -> Any:
    """Import a class or a function by its path ``module:Name``.

    Raises:
        UsageError: The path is malformed, there is nothing at it, or its module fails on import.
    """
    module, _, name = path.partition(":")
    if not all(each.isidentifier() for each in (*module.split("."), *name.split("."))):
        raise UsageError(f"{path!r} is no name of a class; write module:Class, such as mine:MyModel for the class in mine.py")
    try:
        found = import_module(module)
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"cannot import {module!r} for {path!r}: {error}; check the name and the folder") from None
    except Exception as error:  # whatever that module's own code raises
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(error).__name__
        raise UsageError(f"{module!r} fails on import, {frame.filename} line {frame.lineno}: {kind}: {error}; mend it") from error
    try:
        return reduce(getattr, name.split("."), found)
    except AttributeError:
        models = ", ".join(each for each, value in vars(found).items() if _is_model(value)) or "none"
        where = getattr(found, "__file__", None) or "built in"
        raise UsageError(f"module {module!r} ({where}) has no {name!r}; its models are {models}") from None


EXPECTED = "expected a subclass of Recommender[Query, Config]"


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Recommender) and found is not Recommender


def _checked(found: Any, name: str) -> type[AnyRecommender]:
    if not _is_model(found):
        raise UsageError(f"{name} is no model class; {EXPECTED}")
    model_class: type[AnyRecommender] = found
    return model_class


def _same(stored: str, given: str) -> bool:
    """Return whether two paths may name one class; a notebook or a script is called differently in other processes."""
    (module, _, name), (other, _, other_name) = stored.partition(":"), given.partition(":")
    return stored == given or (name == other_name and bool({module, other} & set(HOMELESS)))


def _declares(point: EntryPoint, model_class: type) -> bool:
    """Return whether an entry point is of a class, also through a re-export; imports nothing from other packages."""
    module, _, name = point.value.replace(" ", "").partition(":")
    if (module, name) == (model_class.__module__, model_class.__qualname__):
        return True
    related = model_class.__module__.partition(".")[0] == module.partition(".")[0] and name == model_class.__qualname__
    try:
        return related and point.load() is model_class
    except (ImportError, AttributeError):
        return False
