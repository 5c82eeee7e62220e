"""On-disk cache of edges, keyed by a hash of all their inputs."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gmmrec.errors import UsageError
from gmmrec.safety.names import check_name
from gmmrec.safety.tensors import read_tensors

logger = logging.getLogger(__name__)

VERSION = 1  # of the cached results: raise it when an edge builder changes its results

Edges = tuple[Tensor, Tensor]  # edge_index [2, E], weight [E]


def default_folder() -> Path:
    """Return the user's cache folder: ``$XDG_CACHE_HOME/gmmrec``, usually ``~/.cache/gmmrec``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmmrec"


def cached_edges(
    folder: Path | None, name: str, inputs: Mapping[str, Tensor], settings: Mapping[str, object], compute: Callable[[], Edges]
) -> Edges:
    """Return the edges that ``compute`` yields, from the cache if possible.

    A file that cannot be read, or does not hold these edges, is recomputed and replaced.

    Args:
        folder: Cache folder; None recomputes every time.
        name: Kind of edges, such as ``"knn"``; prefix of the file name.
        inputs: All tensors that the edges depend on.
        settings: All other dependencies, JSON-serialisable.
        compute: Function that computes the edges.
    """
    if folder is None:
        return compute()
    key = content_key(inputs, {"name": name, **settings})
    path = Path(folder) / f"{check_name(name, 'kind of edges')}-{key}.safetensors"
    device = next(iter(inputs.values())).device
    cached = _read(path, key)
    if cached is not None:
        return cached[0].to(device), cached[1].to(device)
    edge_index, weight = compute()
    tensors = {"edge_index": edge_index.cpu().contiguous(), "weight": weight.cpu().contiguous()}
    _write(path, tensors, {"key": key, "digest": content_key(tensors, {})})
    return edge_index, weight


def content_key(inputs: Mapping[str, Tensor], settings: Mapping[str, object]) -> str:
    """Hash tensors (names, dtypes, shapes, bytes) and settings.

    >>> a, b = torch.zeros(2), torch.tensor([0.0, 1e-30])
    >>> content_key({"values": a}, {"k": 5}) == content_key({"values": b}, {"k": 5})
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps({"version": VERSION, **settings}, sort_keys=True).encode())
    for name, tensor in sorted(inputs.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path, key: str) -> Edges | None:
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path, "a file of cached edges", "it is replaced")
    except (UsageError, OSError) as error:
        logger.warning("cannot read %s (%s); recomputing it", path, error)
        return None
    if metadata.get("key") != key or metadata.get("digest") != content_key(tensors, {}):
        logger.warning("the content of %s does not match its key; recomputing it", path)
        return None
    return tensors["edge_index"], tensors["weight"]


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file atomically, so that readers never see a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
