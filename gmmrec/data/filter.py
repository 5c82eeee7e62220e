"""Filters of a data set: repeated pairs, low ratings, the k-core, modalities, features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.repeats import Repeats, sums_within_parts
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import DataError, did_you_mean, quote_names

FURTHEST = 24
"""Largest shift of times in hours; zones lie between -12 and 14."""
Duplicates = Literal["first", "last", "sum", "keep", "error"]


def drop_duplicates(dataset: Dataset, keep: Duplicates = "first") -> Dataset:
    """Keep one interaction per user-item pair.

    A pair that is both trained on and held out would let a ranking be evaluated on training data. With a given split, an event of
    the training part is kept before one that is held out, so that held-out events change nothing in training.

    Args:
        dataset: Data set to filter.
        keep: ``"first"`` or ``"last"`` by time (by position without times); ``"sum"``: the first, with the sum of the weights, or
            the number of occurrences without weights, of which a split takes what each part may know
            (:mod:`gmmrec.data.repeats`); ``"keep"``: all, for tasks that follow a history; ``"error"``: refuse repeats.

    Raises:
        DataError: There are repeats and ``keep`` is ``"error"``, or a sum exceeds the range of float32.
    """
    log = dataset.interactions
    if keep == "keep" or not len(log):
        return dataset
    key = log.user * dataset.num_items + log.item
    order = torch.arange(len(log)) if log.moment is None else torch.argsort(log.moment, stable=True)
    if keep == "last":
        order = order.flip(0)
    if dataset.given_split is not None:
        order = order[torch.argsort(dataset.given_split[order], stable=True)]
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
            f"user {user!r} and item {item!r} interact more than once ({int((~is_first).sum())} repeated rows in total); "
            f"set duplicates to 'first', 'last' or 'sum'"
        )
    kept = order[is_first].sort().values
    merged = _keep(dataset, kept)
    return _with_sums(merged, dataset, kept) if keep == "sum" else merged


def _with_sums(merged: Dataset, dataset: Dataset, kept: Tensor) -> Dataset:
    """Return a data set of distinct pairs with the sums of their weights, of events of the same given part if there are parts."""
    log = dataset.interactions
    if log.weight is None:
        log = replace(log, weight=torch.ones(len(log)))
    is_kept = torch.zeros(len(log), dtype=torch.bool)
    is_kept[kept] = True
    repeats = Repeats(log, is_kept, dataset.given_split)
    strategy = "random" if dataset.given_split is None else "given"
    weight = sums_within_parts(repeats, merged.interactions, torch.zeros_like(kept), strategy, merged.given_split)
    if not bool(torch.isfinite(weight).all()):
        position = torch.nonzero(~torch.isfinite(weight))[0]
        user, item = (dataset.vocabularies[kind].ids(getattr(merged.interactions, kind)[position])[0] for kind in ("user", "item"))
        raise DataError(f"the weights of user {user!r} and item {item!r} add up to more than 3.4e38; scale the column of weights")
    return replace(merged, interactions=replace(merged.interactions, weight=weight), repeats=repeats)


def min_weight(dataset: Dataset, threshold: float) -> Dataset:
    """Keep interactions with at least this rating (or weight); all users and items stay.

    Raises:
        DataError: There are no ratings, or none reaches the threshold.
    """
    weight = dataset.interactions.weight
    if weight is None:
        raise DataError(f"min_rating is {threshold}, but the interactions of {dataset.name} have no ratings; leave it out")
    if not bool((weight >= threshold).any()):
        raise DataError(f"no interaction of {dataset.name} reaches min_rating {threshold}; the highest is {float(weight.max()):g}")
    if dataset.repeats is not None:
        least = threshold if dataset.repeats.least is None else max(threshold, dataset.repeats.least)
        dataset = replace(dataset, repeats=replace(dataset.repeats, least=least))
    return _keep(dataset, torch.nonzero(weight >= threshold).flatten())


def k_core(dataset: Dataset, k: int) -> Dataset:
    """Keep the k-core, in which every user and item has at least ``k`` interactions; other users and items are removed.

    Raises:
        DataError: The k-core is empty, or outfits or impressions would lose items.
    """
    for field in ("outfits", "impressions"):
        if getattr(dataset, field) is not None:
            raise DataError(f"k_core would remove items from the {field} of {dataset.name}; leave it out")
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
    """Shift every time by a number of hours.

    Raises:
        DataError: The interactions have no times, or no zone is that far from UTC.
    """
    if not abs(hours) <= FURTHEST:
        raise DataError(f"utc_offset must lie between {-FURTHEST} and {FURTHEST} hours, but is {hours}")
    log = dataset.interactions
    if log.time is None:
        have = "have no times to shift" if log.order is None else "have an order, but no dates to shift"
        raise DataError(f"the interactions of {dataset.name} {have}; leave utc_offset out or name a time_column")
    seconds, impressions = round(hours * 3600), dataset.impressions
    if impressions is not None:
        times = {name: getattr(impressions, name) for name in ("time", "history_time")}
        shifted = {name: column + seconds for name, column in times.items() if column is not None}
        dataset = replace(dataset, impressions=replace(impressions, **shifted))
    repeats = dataset.repeats
    if repeats is not None and repeats.log.time is not None:
        repeats = replace(repeats, log=replace(repeats.log, time=repeats.log.time + seconds))
    return replace(dataset, interactions=replace(log, time=log.time + seconds), repeats=repeats)


def select_modalities(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Keep the named feature tables, in the given order.

    Raises:
        DataError: A name is unknown.
    """
    for name in names:
        if name not in dataset.features:
            known = f"it has {quote_names(dataset.features)}" if dataset.features else "it has none"
            raise DataError(f"{dataset.name} has no features named {name!r}{did_you_mean(name, list(dataset.features))}; {known}")
    return replace(dataset, features={name: dataset.features[name] for name in names})


def hide_features(dataset: Dataset, name: str, share: float, generator: torch.Generator) -> Dataset:
    """Mask one modality of ``floor(share * N)`` random nodes among the ``N`` that have it, for studies of missing modalities.

    Args:
        dataset: Data set to change.
        name: Name of the modality.
        share: Share of the nodes, between 0 and 1.
        generator: Source of randomness.
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
    """Remove the nodes under False, which no interaction may name."""
    others = {kind: torch.ones(len(ids), dtype=torch.bool) for kind, ids in dataset.vocabularies.items() if kind not in alive}
    rows = {node_type: torch.nonzero(mask).flatten() for node_type, mask in (alive | others).items()}
    renumber = {node_type: mask.cumsum(0) - 1 for node_type, mask in alive.items()}
    log, repeats = dataset.interactions, dataset.repeats
    if repeats is not None:
        repeats = repeats.take(alive["user"][repeats.log.user] & alive["item"][repeats.log.item])
        events = repeats.log
        repeats = replace(repeats, log=replace(events, user=renumber["user"][events.user], item=renumber["item"][events.item]))
    return replace(
        dataset,
        repeats=repeats,
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
