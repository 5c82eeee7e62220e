"""Pure functions that take things out of a data set: repeated pairs, low ratings, all but the k-core, modalities, features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.errors import DataError, listed, nearest
from gmmrec.data.vocabulary import Vocabulary

Duplicates = Literal["first", "last", "sum", "keep", "error"]


def drop_duplicates(dataset: Dataset, keep: Duplicates = "first") -> Dataset:
    """One interaction for every user-item pair.

    A pair that occurs again after it was held out would let a ranking be judged on what it was trained on.

    Args:
        dataset: Any.
        keep: ``"first"`` or ``"last"`` by time (by position where there is no time); ``"sum"``: the first, with the sum of the
            weights, or the number of occurrences where there are none; ``"keep"``: all, for tasks that follow a history;
            ``"error"``: refuse repeats.

    Raises:
        DataError: There are repeats and ``keep`` is ``"error"``.
    """
    log = dataset.interactions
    if keep == "keep" or not len(log):
        return dataset
    key = log.user * dataset.num_items + log.item
    order = torch.arange(len(log)) if log.time is None else torch.argsort(log.time, stable=True)
    if keep == "last":
        order = order.flip(0)
    order = order[torch.argsort(key[order], stable=True)]
    is_first = torch.ones(len(log), dtype=torch.bool)
    is_first[1:] = key[order][1:] != key[order][:-1]
    if bool(is_first.all()) and keep != "sum":
        return dataset
    if keep == "error":
        again = int(order[~is_first][0])
        user = dataset.vocabularies["user"].ids(log.user[again : again + 1])[0]
        item = dataset.vocabularies["item"].ids(log.item[again : again + 1])[0]
        raise DataError(
            f"user {user!r} and item {item!r} interact more than once, as do {int((~is_first).sum())} rows in all; "
            f"set duplicates to 'first', 'last' or 'sum'"
        )
    kept = order[is_first]
    if keep == "sum":
        group = torch.empty_like(order)
        group[order] = is_first.cumsum(0) - 1
        weight = torch.ones(len(log)) if log.weight is None else log.weight
        total = torch.zeros(int(is_first.sum()), dtype=torch.float64).index_add_(0, group, weight.double())
        log = replace(log, weight=total.float()[group])
    return _keep(replace(dataset, interactions=log), kept.sort().values)


def min_weight(dataset: Dataset, threshold: float) -> Dataset:
    """Only interactions with at least this rating (or weight); users and items stay.

    Raises:
        DataError: There are no ratings, or none is high enough.
    """
    weight = dataset.interactions.weight
    if weight is None:
        raise DataError(f"min_rating is {threshold}, but the interactions of {dataset.name} have no ratings; leave it out")
    if not bool((weight >= threshold).any()):
        raise DataError(f"no interaction of {dataset.name} reaches min_rating {threshold}; the highest is {float(weight.max()):g}")
    return _keep(dataset, torch.nonzero(weight >= threshold).flatten())


def k_core(dataset: Dataset, k: int) -> Dataset:
    """The largest part in which every user and every item has at least ``k`` interactions; all others leave the vocabularies.

    Raises:
        DataError: Nothing is left, or there are outfits or impressions, from which items would be missing.
    """
    for what in ("outfits", "impressions"):
        if getattr(dataset, what) is not None:
            raise DataError(f"k_core would take items out of the {what} of {dataset.name}; leave it out")
    log = dataset.interactions
    alive = torch.ones(len(log), dtype=torch.bool)
    while True:
        users = torch.bincount(log.user[alive], minlength=dataset.num_users) >= k
        items = torch.bincount(log.item[alive], minlength=dataset.num_items) >= k
        left = alive & users[log.user] & items[log.item]
        if bool((left == alive).all()):
            break
        alive = left
    if not bool(alive.any()):
        raise DataError(f"the {k}-core of {dataset.name} is empty; choose a smaller k_core")
    return _take_nodes(_keep(dataset, torch.nonzero(alive).flatten()), {"user": users, "item": items})


def shift_times(dataset: Dataset, hours: float) -> Dataset:
    """The data set with every time moved by a number of hours.

    Raises:
        DataError: The interactions have no times.
    """
    log = dataset.interactions
    if log.time is None:
        raise DataError(f"the interactions of {dataset.name} have no times to shift; leave utc_offset out or name a time_column")
    seconds, shown = round(hours * 3600), dataset.impressions
    if shown is not None:
        moved = {name: column + seconds for name in ("time", "history_time") if (column := getattr(shown, name)) is not None}
        dataset = replace(dataset, impressions=replace(shown, **moved))
    return replace(dataset, interactions=replace(log, time=log.time + seconds))


def select_modalities(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with some of its feature tables, in the order given.

    Raises:
        DataError: There is no such table.
    """
    for name in names:
        if name not in dataset.features:
            known = f"it has {listed(dataset.features)}" if dataset.features else "it has none"
            raise DataError(f"{dataset.name} has no features named {name!r}{nearest(name, list(dataset.features))}; {known}")
    return replace(dataset, features={name: dataset.features[name] for name in names})


def hide_features(dataset: Dataset, name: str, share: float, generator: torch.Generator) -> Dataset:
    """The data set in which ``floor(share * N)`` random nodes of those that have one modality lack it: for studies of missing data.

    Args:
        dataset: Any.
        name: The modality.
        share: Between 0 and 1.
        generator: Source of the draw.
    """
    table = dataset.features[name]
    present = torch.nonzero(table.present).flatten()
    hidden = present[torch.randperm(len(present), generator=generator)[: int(share * len(present))]]
    mask = table.mask.clone()
    mask[hidden] = False
    return replace(dataset, features={**dataset.features, name: replace(table, mask=mask)})


def _keep(dataset: Dataset, index: Tensor) -> Dataset:
    given = None if dataset.given_split is None else dataset.given_split[index]
    return replace(dataset, interactions=dataset.interactions.take(index), given_split=given)


def _take_nodes(dataset: Dataset, alive: dict[str, Tensor]) -> Dataset:
    """Without the nodes under a False; no interaction may name one of them."""
    others = {kind: torch.ones(len(ids), dtype=torch.bool) for kind, ids in dataset.vocabularies.items() if kind not in alive}
    rows = {node_type: torch.nonzero(mask).flatten() for node_type, mask in (alive | others).items()}
    renumber = {node_type: mask.cumsum(0) - 1 for node_type, mask in alive.items()}
    log = dataset.interactions
    return replace(
        dataset,
        vocabularies={
            node_type: Vocabulary(vocabulary.ids(rows[node_type]), name=vocabulary.name)
            for node_type, vocabulary in dataset.vocabularies.items()
        },
        interactions=replace(log, user=renumber["user"][log.user], item=renumber["item"][log.item]),
        features={
            name: replace(table, values=table.values[rows[table.node_type]], mask=table.mask[rows[table.node_type]])
            for name, table in dataset.features.items()
        },
        attributes={
            node_type: frame.iloc[rows[node_type].numpy()].reset_index(drop=True) for node_type, frame in dataset.attributes.items()
        },
        triples=None
        if dataset.triples is None
        else replace(dataset.triples, entity=None if dataset.triples.entity is None else dataset.triples.entity[rows["item"]]),
    )
