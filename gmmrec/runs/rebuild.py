"""Rebuilding of a model from stored settings, which a stranger may have written: planned without memory first."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from gmmrec.errors import DataError, UsageError
from gmmrec.recommender import AnyRecommender

BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError, AssertionError)
"""Errors that constructors raise for impossible settings and sizes."""
REMEDY = "train the run again"
SLACK = 1000
"""Parameters and modules that a constructor may register beyond four per stored tensor."""


def rebuilt(
    build: Callable[[], AnyRecommender], tensors: Mapping[str, Tensor], path: Path, *, planned: bool = True
) -> AnyRecommender:
    """Return the model of a file, before its weights are loaded.

    The constructor runs on torch's meta device first, where tensors have shapes but no memory, so that a file cannot ask for more
    weights than it holds.

    Args:
        build: Constructor of the model.
        tensors: Weights of the file.
        path: The file, for messages.
        planned: False to build at once, for classes of the caller's own, whose constructors may need values of tensors.

    Raises:
        UsageError: The model cannot be built with these settings, or has other weights.
    """
    try:
        with reading(path):
            if planned:
                with _bounded(4 * len(tensors) + SLACK), torch.device("meta"):
                    _compare(build().state_dict(), tensors)
            model = build()
            _compare(model.state_dict(), tensors)
    except UsageError as error:
        reason = str(error).removesuffix(f"; {REMEDY}").removeprefix(f"{path} ")
        raise DataError(f"{path} cannot be read as a model: {reason}; {REMEDY}") from error
    return model


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of constructors that were given impossible values from a file into one that names the file.

    Raises:
        DataError: In place of such an error; errors meant for people pass.
    """
    try:
        yield
    except UsageError:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} holds impossible settings ({type(error).__name__}: {reason}); {REMEDY}") from error


def _compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights of other names, shapes or types than those of the model."""
    for name in dict.fromkeys((*expected, *found)):
        sides = [side.get(name) for side in (expected, found)]
        described = [
            "nothing" if side is None else f"{list(side.shape)} {str(side.dtype).removeprefix('torch.')}" for side in sides
        ]
        if described[0] != described[1]:
            raise DataError(f"its settings ask for {described[0]} as weight {name[:80]!r}, but it holds {described[1]}")


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Raise an error once more than ``most`` parameters and modules are registered."""
    counted = itertools.count(1)

    def count(module: nn.Module, name: str, added: object) -> None:
        if next(counted) > most:
            raise DataError("its settings ask for far more layers than it holds weights of")

    hooks = register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
