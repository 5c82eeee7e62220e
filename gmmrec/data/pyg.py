"""Reader of users, items and interactions from PyG's ``HeteroData``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.parts import TEST, TRAIN, VALID
from gmmrec.data.times import check_time_format, read_times
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, quote_names

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

logger = logging.getLogger(__name__)

IDS = ("raw_id", "raw_ids", "id", "ids", "node_id", "n_id")
"""Attributes of a node type that hold raw ids; the first match wins, then ``user_id`` for node type ``user``."""
RATINGS = ("rating", "ratings", "weight", "stars", "edge_label", "edge_attr", "edge_weight")
TIMES = ("time", "timestamp", "timestamps", "edge_time")
PARTS = (("train_mask", TRAIN), ("val_mask", VALID), ("test_mask", TEST))
UNREAD = frozenset({"x", "y", "batch", "ptr", "degree", "input_id", "batch_size", "num_nodes", "num_embeddings"})
"""Node attributes that are not read as columns."""


@dataclass(frozen=True)
class Source:
    """Location of the interactions in a ``HeteroData``.

    Attributes:
        user: Node type of the users.
        item: Node type of the items.
        edge: Edge type between them, in either direction, or the name of its relation; None uses the only one.
        rating: Edge attribute of ratings; None looks for a usual name, ``"none"`` ignores ratings.
        time: Edge attribute of times; likewise.
        time_format: Form of the times; see :func:`gmmrec.data.times.read_times`.
    """

    user: str = "user"
    item: str = "item"
    edge: tuple[str, str, str] | str | None = None
    rating: str | None = None
    time: str | None = None
    time_format: str = "auto"

    def __post_init__(self) -> None:
        check_time_format(self.time_format)


@dataclass(frozen=True)
class Found:
    """Fields of a data set, named as in :class:`~gmmrec.data.dataset.Dataset`."""

    vocabularies: Mapping[str, Vocabulary]
    interactions: Interactions
    features: Mapping[str, FeatureTable] = field(default_factory=dict)
    attributes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    given_split: Tensor | None = None


def read_pyg(data: "HeteroData", source: Source) -> Found:
    """Read users, items, interactions, features and attributes.

    Raises:
        DataError: A node type or edge type is missing or ambiguous, or an attribute is invalid.
    """
    types = {"user": source.user, "item": source.item}
    for role, node_type in types.items():
        if node_type not in data.node_types:
            raise DataError(
                f"the data has no node type {node_type!r}; it has {quote_names(data.node_types) or 'none'}, "
                f"so set {role} to one of them"
            )
    if source.user == source.item:
        raise DataError(f"user and item are both {source.user!r}; name a node type of users and another one of items")
    vocabularies, features, attributes = {}, dict[str, FeatureTable](), {}
    for role, node_type in types.items():
        vocabularies[role], used = _vocabulary(data, node_type, role)
        for name, table in _features(data, node_type, role).items():
            if name in features:
                raise DataError(f"{source.user!r} and {source.item!r} both have a modality {name!r}; rename one of the attributes")
            features[name] = table
        frame = _attributes(data, node_type, used)
        if len(frame.columns):
            attributes[role] = frame
    interactions, given = _interactions(data, source)
    return Found(vocabularies, interactions, features, attributes, given)


def _count(data: "HeteroData", node_type: str) -> int:
    count = data[node_type].num_nodes
    if count is None:
        raise DataError(f"the number of {node_type!r} nodes is unknown; set data[{node_type!r}].num_nodes")
    return int(count)


def _vocabulary(data: "HeteroData", node_type: str, role: str) -> tuple[Vocabulary, str | None]:
    """Return the raw ids and the attribute that holds them; row numbers and None without such an attribute."""
    store, count = data[node_type], _count(data, node_type)
    name = next((name for name in (*IDS, f"{node_type}_id") if name in store), None)
    if name is None:
        return Vocabulary(range(count), name=role), None
    values = store[name]
    ids = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
    if len(ids) != count or not {type(raw_id) for raw_id in ids} <= {int, str}:
        raise DataError(
            f"{name!r} of {node_type!r} must hold an integer or a string for each of {count} nodes, but holds {len(ids)} values "
            f"such as {ids[0] if ids else None!r}; fix or delete it"
        )
    try:
        return Vocabulary(ids, name=role), name
    except ValueError as error:
        raise DataError(f"{name!r} of {node_type!r} cannot serve as ids: {error}; fix or delete it") from None


def _features(data: "HeteroData", node_type: str, role: str) -> dict[str, FeatureTable]:
    """Return float attributes with one row per node, missing where ``NAME_mask`` is False, else where all NaN or zero."""
    store, count = data[node_type], _count(data, node_type)
    is_graph = "num_embeddings" in store  # made by MultimodalGraph.to_pyg: x repeats the other attributes
    tables = {}
    for name, values in store.items():
        if not isinstance(values, Tensor) or (is_graph and name == "x"):
            continue
        values = values if values.layout == torch.strided else values.to_dense()
        is_number = values.is_floating_point() or name == "x"
        if not is_number or values.dim() not in (2, 3) or len(values) != count or not values.shape[-1]:
            continue
        modality = name.removeprefix("feature_") if is_graph else name
        if not is_graph and role != "item" and not modality.startswith(f"{role}_"):
            modality = f"{role}_{modality}"
        values, mask = values.detach().cpu().float(), store.get(f"{name}_mask")
        if mask is None:
            mask = ~values.isnan().all(-1) & (values != 0).any(-1)
        elif mask.shape != values.shape[:-1]:
            raise DataError(
                f"'{name}_mask' of {node_type!r} has shape {tuple(mask.shape)}, but {name!r} needs {tuple(values.shape[:-1])}"
            )
        try:
            tables[modality] = FeatureTable(modality, values, mask.cpu().bool(), role)
        except ValueError as error:
            raise DataError(str(error)) from None
        num_missing = int((~tables[modality].present).sum())
        if num_missing:
            logger.info("%d of %d %ss have no %s and are masked", num_missing, count, role, modality)
    return tables


def _attributes(data: "HeteroData", node_type: str, used: str | None) -> pd.DataFrame:
    """Return the other attributes of every node: one-dimensional tensors and lists of texts or numbers."""
    store, count = data[node_type], _count(data, node_type)
    columns: dict[str, Any] = {}
    for name, values in store.items():
        if name in UNREAD or name == used or name.endswith("_mask"):
            continue
        if isinstance(values, Tensor | np.ndarray) and values.ndim == 1 and len(values) == count:
            columns[name] = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        elif (
            isinstance(values, list | tuple)
            and len(values) == count
            and all(isinstance(value, str | int | float) for value in values)
        ):
            columns[name] = list(values)
    title = next((name for name in ("title", "movie_title", "name", "names") if name in columns), None)
    if title is not None:
        columns["title"] = [str(value) for value in columns[title]]
    frame: pd.DataFrame = pd.DataFrame(columns, index=range(count))
    return frame


def _edge_type(data: "HeteroData", source: Source) -> tuple[str, str, str]:
    joining = [kind for kind in data.edge_types if {kind[0], kind[2]} == {source.user, source.item}]
    if source.edge is not None:
        matching = [kind for kind in joining if source.edge in (kind, kind[1])]
        if not matching:
            raise DataError(
                f"no edges {source.edge!r} join {source.user!r} and {source.item!r}; those that do are "
                f"{quote_names(joining) or 'none'}; set edge to one of them"
            )
    else:
        forward = [kind for kind in joining if kind[0] == source.user and not kind[1].startswith("rev_")]
        matching = forward or joining
        if not matching:
            raise DataError(
                f"no edges join {source.user!r} and {source.item!r}; the edge types are {quote_names(data.edge_types) or 'none'}; "
                "set user and item to the ends of one of them"
            )
    if len(matching) > 1:
        raise DataError(
            f"several edge types join {source.user!r} and {source.item!r}: {quote_names(matching)}; set edge to one of them"
        )
    edge_type: tuple[str, str, str] = matching[0]
    return edge_type


def _interactions(data: "HeteroData", source: Source) -> tuple[Interactions, Tensor | None]:
    kind = _edge_type(data, source)
    store, name = data[kind], "-".join(kind)
    if "edge_index" not in store:
        raise DataError(f"the edges {name} have no edge_index; give the data before ToSparseTensor")
    from torch_geometric import EdgeIndex  # imported here, so that readers of files do not need it

    ends = store["edge_index"].detach().cpu()
    ends = ends.as_tensor() if isinstance(ends, EdgeIndex) else ends
    for end, node_type in zip(ends, (kind[0], kind[2]), strict=True):
        count = _count(data, node_type)
        if end.numel() and not 0 <= int(end.min()) <= int(end.max()) < count:
            raise DataError(
                f"the edges {name} join node {int(end.max())}, but there are {count} {node_type!r} nodes; fix one of them"
            )
    user, item = (ends if kind[0] == source.user else ends.flip(0)).long()
    is_graph = "num_embeddings" in data[source.user]  # its edge_weight is a normalization, not a rating
    usual = [name for name in RATINGS if not (is_graph and name == "edge_weight")]
    usual = [name for name in usual if not (name == "edge_label" and "edge_label_index" in store)]  # labels of other edges
    weight = _column(store, source.rating, usual, "rating", name, len(user))
    time = _column(store, source.time, TIMES, "time", name, len(user))
    if weight is not None:
        weight = weight.float()
        if not bool(torch.isfinite(weight).all()):
            raise DataError(f"the ratings of {name} hold NaN or infinity; fix them or set rating='none'")
    times = {}
    if time is not None:
        values = pd.Series(time.numpy(), name="time")
        times = {
            key: torch.from_numpy(column)
            for key, column in read_times(values, Path(f"the edges {name}"), source.time_format).items()
        }
    log = Interactions(user.contiguous(), item.contiguous(), weight=weight, **times)
    repeats = len(log) - len(log.distinct())
    if repeats:
        logger.warning("%d user-item pairs repeat and are kept; gmmrec.data.filter.drop_duplicates merges them", repeats)
    return log, _given_split(store, name, len(log))


def _column(store: Any, given: str | None, usual: Any, role: str, name: str, count: int) -> Tensor | None:
    """Return one number per edge, from the named attribute or one with a usual name."""
    if given == "none":
        return None
    if given is not None and given not in store:
        raise DataError(
            f"the edges {name} have no attribute {given!r}; they have {quote_names(store.keys())}, so set {role} to one of them"
        )
    for attribute in usual if given is None else [given]:
        values = store.get(attribute)
        values = values.squeeze(-1) if isinstance(values, Tensor) and values.dim() == 2 else values
        if isinstance(values, Tensor) and values.shape == (count,):
            return values.detach().cpu()
    if given is not None:
        raise DataError(
            f"attribute {given!r} of the edges {name} must hold one number for each of {count} edges; set another {role}"
        )
    return None


def _given_split(store: Any, name: str, count: int) -> Tensor | None:
    """Return the part of every edge by PyG's masks, or None without masks of training and test."""
    masks = {mask: store.get(mask) for mask, _ in PARTS}
    if masks["train_mask"] is None or masks["test_mask"] is None:
        return None
    part = torch.full((count,), -1)
    for mask, code in PARTS:
        if masks[mask] is not None:
            part[masks[mask].cpu()] = code
    if bool((part < 0).any()):
        raise DataError(
            f"{int((part < 0).sum())} of {count} edges {name} are in no part; cover every edge by train_mask, val_mask or test_mask"
        )
    return part
