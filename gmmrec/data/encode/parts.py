"""Parts of an extraction: encoded in batches, named by a hash of their content, written atomically."""

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
from gmmrec.errors import DataError, UsageError
from gmmrec.safety.arrays import load_arrays

Array = NDArray[Any]


class Part(NamedTuple):
    """Consecutive rows of a source and the file for their values."""

    rows: range
    path: Path


def parts_of(source: Source, folder: Path, size: int) -> list[Part]:
    """Divide the rows of a source; a file's name depends on the settings, ids and inputs of its rows alone."""
    parts = []
    for start in range(0, len(source.ids), size):
        rows = range(start, min(start + size, len(source.ids)))
        content = [source.settings(), [(repr(source.ids[row]), source.fingerprint(row)) for row in rows]]
        digest = hashlib.sha256(json.dumps(content).encode())
        parts.append(Part(rows, folder / f"{digest.hexdigest()[:32]}.npz"))
    return parts


def encode_part(source: Source, rows: range, batch_size: int, progress: Callable[[int], object]) -> dict[str, Array]:
    """Encode consecutive rows.

    Args:
        source: Source of the inputs.
        rows: Rows of the source.
        batch_size: Number of rows encoded at once.
        progress: Callback with the number of rows of every batch.

    Returns:
        ``rows`` with a value, ascending, counted from the part's first; their float32 ``values``, zero where the ``mask`` is
        False; the ``missing`` rows and the ``reasons``.

    Raises:
        UsageError: The encoder gives values that fit neither the batch nor each other.
    """
    order = sorted(rows, key=source.length)
    missing: dict[int, str] = {}
    present: list[int] = []
    values: list[Array] = []
    masks: list[Array] = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        encoded = source.encode(batch)
        missing |= encoded.missing
        if encoded.values is not None:
            block, mask, rejected = _checked(encoded)
            missing |= rejected
            keep = [position for position, row in enumerate(encoded.rows) if row not in rejected]
            present += [encoded.rows[position] for position in keep]
            values.append(block[keep])
            masks.append(mask[keep])
        progress(len(batch))
    widths = {block.shape[1:] for block in values}
    if len(widths) > 1:
        raise UsageError(f"an encoder must give all batches the same number of tokens and width, but gave {sorted(widths)}")
    ascending = np.argsort(present)
    return {
        "rows": np.array(present, dtype=np.int64)[ascending] - rows.start,
        "values": np.concatenate(values)[ascending] if values else np.zeros((0, 0), np.float32),
        "mask": np.concatenate(masks)[ascending] if values else np.zeros(0, np.bool_),
        "missing": np.array(list(missing), dtype=np.int64) - rows.start,
        "reasons": np.array(list(missing.values()), dtype=np.str_),
    }


def read_parts(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, Array]]]:
    """Yield every part with its arrays."""
    for part in parts:
        arrays = load_arrays(part.path)
        if not {"rows", "values", "mask", "missing", "reasons"} <= set(arrays):
            raise DataError(f"{part.path} is damaged: it lacks arrays; remove the folder {part.path.parent.name} and extract again")
        yield part, arrays


def save_whole(path: Path, folder: Path, arrays: dict[str, Array]) -> None:
    """Write an ``.npz`` atomically, through a temporary file in ``folder``."""
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".unfinished")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(handle)
    Path(temporary).chmod(0o666 & ~_umask())
    os.replace(temporary, path)


def _umask() -> int:
    """Return the permissions masked for new files, which mkstemp restricts to the owner."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _checked(encoded: Encoded) -> tuple[Array, Array, dict[int, str]]:
    """Return the values, zero where masked, the mask, and the rows without information, with the reason."""
    assert encoded.values is not None
    values = encoded.values.detach().float().cpu()
    mask = torch.ones(values.shape[:-1], dtype=torch.bool) if encoded.mask is None else encoded.mask.cpu()
    if values.dim() not in (2, 3) or len(values) != len(encoded.rows) or mask.shape != values.shape[:-1]:
        raise UsageError(
            f"an encoder must give [B, D] or [B, T, D] values and a mask [B, T] for a batch of {len(encoded.rows)}, "
            f"but gave {tuple(values.shape)} and {tuple(mask.shape)}"
        )
    values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    checks = {
        "it holds no token that the encoder knows": mask.flatten(1).any(1) if mask.dim() > 1 else mask,
        "the encoder gave NaN or infinity": torch.isfinite(values).flatten(1).all(1),
        "the encoder gave only zeros": (values != 0).flatten(1).any(1),  # zeros would be read as missing
    }
    rejected: dict[int, str] = {}
    for reason, is_valid in checks.items():
        for position in torch.nonzero(~is_valid).flatten().tolist():
            rejected.setdefault(encoded.rows[position], reason)
    return values.numpy(), mask.numpy(), rejected
