"""Identity of a run: everything that its numbers depend on, compared when it is resumed.

Settings count unless their declaration says that they may change (:data:`gmmrec.config.MAY_CHANGE`). Data count by their content,
not by their path; derived numbers, such as nearest neighbours, do not count, since their last bits differ between machines.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gmmrec.config import ON_RESUME, to_plain
from gmmrec.data.dataset import Dataset
from gmmrec.data.pack import packed
from gmmrec.data.parts import SplitPart
from gmmrec.data.split import Split
from gmmrec.runs import attributes
from gmmrec.runs.config import RunConfig, TopConfig, sections_of

NUMBERS = 1
"""Version of the numbers that a training gives; raised when the same settings and data give others."""
Identity: TypeAlias = Mapping[str, Any]
"""``numbers``, the settings by name, and digests of the data by name."""


def identify(config: RunConfig, dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return the identity of a run.

    Args:
        config: All settings, with the monitor filled in.
        dataset: Vocabularies, features, reviews and attributes.
        split: Interactions of all parts, and impressions, outfits and triples.
    """
    return {"numbers": NUMBERS, "settings": settings_that_count(config), "data": dict(digests(dataset, split))}


def settings_that_count(config: RunConfig) -> dict[str, Any]:
    """Return the settings that must stay the same, by name, as they are read from a JSON file."""
    found: dict[str, Any] = {"model_name": config.model_name, "parts": dict(config.parts)}
    for name, section in sections_of(config.model_class).items():
        owner, prefix = (config, "") if section is TopConfig else (getattr(config, name), f"{name}.")
        for each in fields(section):
            if ON_RESUME not in each.metadata:
                found[prefix + each.name] = to_plain(getattr(owner, each.name))
            elif (counted := each.metadata[ON_RESUME]) is not None:
                found[prefix + each.name] = to_plain(counted(config))
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def digests(dataset: Dataset, split: Split) -> Iterator[tuple[str, str]]:
    """Yield the digest of every part of the data, by its name in messages."""
    for node_type, vocabulary in dataset.vocabularies.items():
        yield f"{node_type} ids", digest({}, vocabulary.ids())
    for node_type, frame in dataset.attributes.items():
        yield f"{node_type} attributes", digest({}, attributes.to_plain(frame))
    for part in (each.value for each in SplitPart):
        if getattr(split, part, None) is not None:
            yield f"{part} interactions", digest(packed(getattr(split, part)))
    for each in fields(split):
        content = getattr(split, each.name)
        if is_dataclass(content) and each.name not in {part.value for part in SplitPart}:
            yield each.name, digest(packed(content))
    for name, table in dataset.features.items():
        tokens = None if table.tokens is None else asdict(table.tokens)
        yield f"{table.node_type} features {name!r}", digest({"values": table.values, "mask": table.mask}, tokens)
    if dataset.reviews is not None:
        yield "reviews", digest({"tokens": dataset.reviews.tokens}, dataset.reviews.words)


def digest(tensors: Mapping[str, Tensor], plain: Any = None) -> str:
    """Return the SHA-256 of tensors (names, types, shapes, bytes) and plain data.

    >>> zeros = torch.zeros(2)
    >>> digest({"a": zeros}) == digest({"b": zeros}), digest({"a": zeros}) == digest({"a": torch.zeros(2)})
    (False, True)
    """
    found = hashlib.sha256(json.dumps(plain, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest_of(identity: Identity) -> str:
    """Return one digest of a whole identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(stored: Identity, now: Identity) -> list[str]:
    """Return every difference of two identities, as phrases.

    >>> differences({"settings": {"seed": 0}, "data": {"user ids": "a"}}, {"settings": {"seed": 9}, "data": {"user ids": "b"}})
    ['seed was 0 and is 9', 'the user ids differ']
    """
    found = []
    if stored.get("numbers") != now.get("numbers"):
        found.append(f"version {stored.get('numbers')} of the training wrote it, and this is version {now.get('numbers')}")
    for name in _names(stored, now, "settings"):
        before, after = (side["settings"].get(name) for side in (stored, now))
        if before != after:
            found.append(f"{name} was {_short(before)} and is {_short(after)}")
    for name in _names(stored, now, "data"):
        before, after = (side["data"].get(name) for side in (stored, now))
        if before != after:
            found.append(f"the {name} {'are new' if before is None else 'are gone' if after is None else 'differ'}")
    return found


def _names(stored: Identity, now: Identity, kind: str) -> list[str]:
    return list(dict.fromkeys((*stored.get(kind, {}), *now.get(kind, {}))))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
