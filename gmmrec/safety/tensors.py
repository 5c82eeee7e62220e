"""Safetensors files that a stranger may have written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gmmrec.errors import DataError, MissingFileError
from gmmrec.safety.documents import parse_json
from gmmrec.safety.sizes import check_file

DTYPES = frozenset({
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
})  # fmt: skip
"""Types of tensors that gmmrec writes."""


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file and the texts of its header.

    Args:
        path: The file.
        what: Description of what it should be, such as ``"a saved graph"``.
        remedy: Advice; the end of the message.

    Raises:
        DataError: The file is not safetensors, is damaged or too large, or holds types that gmmrec does not write.
        MissingFileError: There is no such file.
    """
    with _opened(path, what, remedy) as file:
        header: dict[str, str] = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is not a mapping)
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise DataError(
                f"{path} is damaged or not {what} ({name[:60]!r} is {tensor.dtype}, which gmmrec never writes); {remedy}"
            )
    return tensors, header


def read_header(path: Path, what: str, remedy: str) -> dict[str, str]:
    """Return the texts of the header of a file, without its tensors; see :func:`read_tensors`."""
    with _opened(path, what, remedy) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path, what: str, remedy: str) -> Iterator[Any]:
    if not path.is_file():
        raise MissingFileError(f"there is no file {str(path)!r}; {remedy}")
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise DataError(f"{path} is damaged or not {what} ({' '.join(str(error).split())[:120]}); {remedy}") from error


def header_json(header: dict[str, str], name: str, path: Path, remedy: str, kind: type = dict) -> Any:
    """Return the content of one JSON text of the header of a file.

    Raises:
        DataError: It is missing, or holds something else.
    """
    if name not in header:
        raise DataError(f"{path} is damaged (its header has no {name!r}); {remedy}")
    return parse_json(header[name], f"{path}, header {name!r}", remedy, kind)


def check_tensor(
    tensor: Any, name: str, shape: tuple[int | None, ...], dtypes: tuple[torch.dtype, ...], low: int | None = None,
    high: int | None = None,
) -> None:  # fmt: skip
    """Check shape, type and range of a tensor from a file.

    Args:
        tensor: The tensor.
        name: Its name, for the message.
        shape: Its sizes; None for any.
        dtypes: Allowed types.
        low: Lowest allowed value; None for any.
        high: First value that is too high; None for any.

    Raises:
        DataError: Something differs; the message is the clause that follows the name of the file.

    >>> check_tensor(torch.tensor([0, 7]), "train.user", (None,), (torch.int64,), 0, 5)
    Traceback (most recent call last):
    ...
    gmmrec.errors.DataError: 'train.user' holds the row 7, but rows run from 0 to 4
    """
    if not isinstance(tensor, Tensor):
        raise DataError(f"{name[:60]!r} is missing")
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(want is not None and want != have for want, have in zip(shape, found, strict=True)):
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise DataError(f"{name[:60]!r} has the shape {list(found)}, expected [{expected}]")
    if tensor.dtype not in dtypes:
        raise DataError(f"{name[:60]!r} is {tensor.dtype}, expected {' or '.join(map(str, dtypes))}")
    if tensor.numel() and (low is not None or high is not None):
        least, most = int(tensor.min()), int(tensor.max())
        if (low is not None and least < low) or (high is not None and most >= high):
            wrong = least if low is not None and least < low else most
            end = "" if high is None else f" to {high - 1}"
            raise DataError(f"{name[:60]!r} holds the row {wrong}, but rows run from {low}{end}")


def check_finite(tensor: Tensor, name: str) -> None:
    """Check that a tensor from a file holds no NaN and no infinity.

    Raises:
        DataError: It does; the message is the clause that follows the name of the file.
    """
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise DataError(f"{name[:60]!r} holds NaN or infinity")
