"""Parts of the work: each encoded in batches, named by its content, and written whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gmmrec.data.encode.source import Encoded, Source

Array = NDArray[Any]


class Part(NamedTuple):
    """Consecutive rows of a source and the file for their values."""

    rows: range
    path: Path


def parts_of(source: Source, folder: Path, size: int) -> list[Part]:
    """Cuts the rows of a source; a file's name changes with settings, ids and inputs of its rows, and with nothing else."""
    parts = []
    for start in range(0, len(source.ids), size):
        rows = range(start, min(start + size, len(source.ids)))
        content = [source.settings(), [(repr(source.ids[row]), source.fingerprint(row)) for row in rows]]
        digest = hashlib.sha256(json.dumps(content).encode())
        parts.append(Part(rows, folder / f"{digest.hexdigest()[:32]}.npz"))
    return parts


def encode_part(source: Source, rows: range, batch_size: int, progress: Callable[[int], object]) -> dict[str, Array]:
    """Encodes consecutive rows.

    Args:
        source: What to encode.
        rows: Of the source.
        batch_size: Rows that are encoded at once.
        progress: Is told how many rows every batch had.

    Returns:
        ``rows`` that have a value, counted from the part's first, ascending; their float32 ``values``, zero under the ``mask``; the
        ``missing`` rows and the ``reasons``.

    Raises:
        ValueError: The encoder gives values that fit neither the batch nor each other.
    """
    order = sorted(rows, key=source.length)
    missing: dict[int, str] = {}
    present: list[int] = []
    values: list[Array] = []
    masks: list[Array] = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found = source.encode(batch)
        missing |= found.missing
        if found.values is not None:
            block, mask, useless = _checked(found)
            missing |= useless
            keep = [position for position, row in enumerate(found.rows) if row not in useless]
            present += [found.rows[position] for position in keep]
            values.append(block[keep])
            masks.append(mask[keep])
        progress(len(batch))
    widths = {block.shape[1:] for block in values}
    if len(widths) > 1:
        raise ValueError(f"an encoder must give every batch the same tokens and width, but gave {sorted(widths)}")
    ascending = np.argsort(present)
    return {
        "rows": np.array(present, dtype=np.int64)[ascending] - rows.start,
        "values": np.concatenate(values)[ascending] if values else np.zeros((0, 0), np.float32),
        "mask": np.concatenate(masks)[ascending] if values else np.zeros(0, np.bool_),
        "missing": np.array(list(missing), dtype=np.int64) - rows.start,
        "reasons": np.array(list(missing.values()), dtype=np.str_),
    }


def read_parts(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, Array]]]:
    """The arrays of one part after the other."""
    for part in parts:
        with np.load(part.path, allow_pickle=False) as file:
            yield part, {name: file[name] for name in file.files}


def save_whole(path: Path, folder: Path, arrays: dict[str, Array]) -> None:
    """Writes an ``.npz`` through a temporary file in ``folder``: whoever looks sees the whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".unfinished")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(handle)
    Path(temporary).chmod(0o666 & ~_umask())
    os.replace(temporary, path)


def _umask() -> int:
    """The permissions that new files do not get; mkstemp leaves them to the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _checked(found: Encoded) -> tuple[Array, Array, dict[int, str]]:
    """Values with zeros under the mask, the mask, and the rows whose values say nothing, with the reason."""
    assert found.values is not None
    values = found.values.detach().float().cpu()
    mask = torch.ones(values.shape[:-1], dtype=torch.bool) if found.mask is None else found.mask.cpu()
    if values.dim() not in (2, 3) or len(values) != len(found.rows) or mask.shape != values.shape[:-1]:
        raise ValueError(
            f"an encoder must give [B, D] or [B, T, D] values and a mask [B, T] for a batch of {len(found.rows)}, "
            f"but gave {tuple(values.shape)} and {tuple(mask.shape)}"
        )
    values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    verdicts = {
        "it holds no token that the encoder knows": mask.flatten(1).any(1) if mask.dim() > 1 else mask,
        "the encoder gave NaN or infinity": torch.isfinite(values).flatten(1).all(1),
        "the encoder gave only zeros": (values != 0).flatten(1).any(1),  # which would be read as missing
    }
    useless: dict[int, str] = {}
    for reason, is_good in verdicts.items():
        for position in torch.nonzero(~is_good).flatten().tolist():
            useless.setdefault(found.rows[position], reason)
    return values.numpy(), mask.numpy(), useless
