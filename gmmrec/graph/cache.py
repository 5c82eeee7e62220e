"""Edges kept on disk between runs, under a name made of everything they were computed from."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger(__name__)

VERSION = 1  # of the code whose results are kept: raise it when an edge builder computes something else

Edges = tuple[Tensor, Tensor]  # edge_index [2, E], weight [E]


def default_folder() -> Path:
    """Where a user's caches go: ``$XDG_CACHE_HOME/gmmrec``, which is ``~/.cache/gmmrec`` as a rule."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmmrec"


def cached_edges(
    folder: Path | None, name: str, inputs: Mapping[str, Tensor], settings: Mapping[str, object], compute: Callable[[], Edges]
) -> Edges:
    """The edges that ``compute`` yields, read from ``folder`` where they were computed before.

    A file that cannot be read, or holds anything but these edges, is computed anew and replaced.

    Args:
        folder: Where files are kept; None computes every time.
        name: What the edges are, such as ``"knn"``; the file's name begins with it.
        inputs: All tensors that the result depends on.
        settings: All other things that it depends on, as JSON can hold them.
        compute: Makes the edges.
    """
    if folder is None:
        return compute()
    key = content_key(inputs, {"name": name, **settings})
    path = Path(folder) / f"{name}-{key}.safetensors"
    device = next(iter(inputs.values())).device
    kept = _read(path, key)
    if kept is not None:
        return kept[0].to(device), kept[1].to(device)
    edge_index, weight = compute()
    tensors = {"edge_index": edge_index.cpu().contiguous(), "weight": weight.cpu().contiguous()}
    _write(path, tensors, {"key": key, "digest": content_key(tensors, {})})
    return edge_index, weight


def content_key(inputs: Mapping[str, Tensor], settings: Mapping[str, object]) -> str:
    """A hash of what tensors hold (names, types, shapes, bytes) and of settings.

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
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is no mapping)
    except (SafetensorError, OSError) as error:
        logger.warning("cannot read %s (%s); computing it anew", path, error)
        return None
    if metadata.get("key") != key or metadata.get("digest") != content_key(tensors, {}):
        logger.warning("%s does not hold what its name says; computing it anew", path)
        return None
    return tensors["edge_index"], tensors["weight"]


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a file whole or not at all: readers never see a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
