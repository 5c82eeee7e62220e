"""Summary statistics of a data set."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.overlap import Overlap
from gmmrec.data.parts import GIVEN_PARTS, TRAIN
from gmmrec.data.unread import Unread


@dataclass(frozen=True)
class Degrees:
    """Number of interactions per node, over all nodes that have any."""

    least: int
    """Minimum."""
    median: float
    """Median."""
    most: int
    """Maximum."""


@dataclass(frozen=True)
class Description:
    """Statistics of a data set; shares lie between 0 and 1."""

    name: str
    users: int
    items: int
    interactions: int
    density: float
    """Interactions divided by users times items."""
    user_degrees: Degrees
    item_degrees: Degrees
    inactive_users: int
    """Users without interactions."""
    cold_items: int
    """Items without interactions; with a given split, without one in its training part."""
    duplicates: int
    """Interactions whose user-item pair occurs earlier in the log."""
    first_time: str | None
    """Date (UTC) of the earliest interaction; a number if times are only an order; None without times."""
    last_time: str | None
    has_dates: bool
    """True if times are dates; False for an order without dates, and without times."""
    weight_range: tuple[float, float] | None
    reviews: float | None
    """Share of the interactions with a review; None without reviews."""
    words: int | None
    """Distinct known words of the reviews (words that occur at least twice)."""
    modalities: dict[str, float]
    """Share of the nodes with the modality present, by modality."""
    dims: dict[str, int]
    """Feature width by modality."""
    attributes: dict[str, list[str]]
    """Columns by node type."""
    split: dict[str, int] | None
    """Interactions of every given part; None without a given split."""
    knowledge: dict[str, int] | None
    """Number of triples, entities, relations and aligned items; None without triples."""
    overlaps: list[Overlap]
    """Ids that the tables of the source have in common, before any filter."""
    unread: Unread
    """Columns and files of the source that are not read."""


def describe(dataset: Dataset) -> Description:
    """Compute summary statistics of a data set.

    >>> from gmmrec.data.load import load_dataset
    >>> figures = describe(load_dataset("movies-small"))
    >>> figures.users, figures.items, figures.user_degrees, figures.first_time, round(figures.modalities["image"], 3)
    (671, 9066, Degrees(least=20, median=71.0, most=2391), '1995-01-09', 0.334)
    """
    log, given = dataset.interactions, dataset.given_split
    user_degree = torch.bincount(log.user, minlength=dataset.num_users)
    item_degree = torch.bincount(log.item, minlength=dataset.num_items)
    trained = item_degree if given is None else torch.bincount(log.item[given == TRAIN], minlength=dataset.num_items)
    distinct = len(torch.unique(log.user * dataset.num_items + log.item))
    return Description(
        name=dataset.name,
        users=dataset.num_users,
        items=dataset.num_items,
        interactions=len(log),
        density=len(log) / max(1, dataset.num_users * dataset.num_items),
        user_degrees=_degrees(user_degree),
        item_degrees=_degrees(item_degree),
        inactive_users=int((user_degree == 0).sum()),
        cold_items=int((trained == 0).sum()),
        duplicates=len(log) - distinct,
        first_time=_shown(log, 0),
        last_time=_shown(log, -1),
        has_dates=log.time is not None,
        weight_range=None if log.weight is None or not len(log) else (float(log.weight.min()), float(log.weight.max())),
        reviews=None if log.review is None else float((log.review >= 0).float().mean()),
        words=None if dataset.reviews is None else dataset.reviews.num_words - 2,
        modalities={name: float(table.present.float().mean()) for name, table in dataset.features.items()},
        dims={name: table.dim for name, table in dataset.features.items()},
        attributes={node_type: [str(column) for column in frame.columns] for node_type, frame in dataset.attributes.items()},
        split=None if given is None else {part.value: int((given == part.code).sum()) for part in GIVEN_PARTS},
        knowledge=_knowledge(dataset),
        overlaps=list(dataset.overlaps),
        unread=dataset.unread,
    )


def _knowledge(dataset: Dataset) -> dict[str, int] | None:
    triples = dataset.triples
    if triples is None:
        return None
    aligned = 0 if triples.entity is None else int((triples.entity >= 0).sum())
    entities, relations = (len(dataset.vocabularies[kind]) for kind in ("entity", "relation"))
    return {"triples": len(triples), "entities": entities, "relations": relations, "aligned items": aligned}


def _degrees(degree: Tensor) -> Degrees:
    active = degree[degree > 0].sort().values
    if not len(active):
        return Degrees(0, 0.0, 0)
    middle = (active[(len(active) - 1) // 2] + active[len(active) // 2]) / 2
    return Degrees(int(active[0]), float(middle), int(active[-1]))


def _shown(log: Interactions, position: int) -> str | None:
    """Return the date of the earliest (0) or latest (-1) interaction, or its number in an order without dates."""
    if log.moment is None or not len(log):
        return None
    if log.time is None:
        return str(int(log.moment.sort().values[position]))
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(log.time.sort().values[position]))).date().isoformat()
