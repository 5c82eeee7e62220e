"""The checkerboard as a graph, and variants of it."""

from dataclasses import replace

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.testing.toy import checkerboard

U, I = 23, 17  # primes that no layer has as its width, so a table of 23 rows belongs to users  # noqa: E741


def toy_graph(dataset: Dataset | None = None) -> MultimodalGraph:
    """Return the graph of all known interactions."""
    dataset = checkerboard(U, I)[0] if dataset is None else dataset
    nothing = dataset.interactions.take(torch.arange(0))
    return build_graph(dataset, Split(dataset.interactions, nothing, nothing))


def with_mask(dataset: Dataset, name: str, rows: Tensor) -> Dataset:
    """Return the data set with one modality of some items missing."""
    mask = dataset.features[name].mask.clone()
    mask[rows] = False
    return replace(dataset, features={**dataset.features, name: FeatureTable(name, dataset.features[name].values, mask)})


def with_new_features(dataset: Dataset, item: int) -> Dataset:
    """Return the data set with other features for one item."""
    generator, features = torch.Generator().manual_seed(7), {}
    for name, table in dataset.features.items():
        values = table.values.clone()
        values[item] = torch.randn(table.dim, generator=generator)
        features[name] = FeatureTable(name, values, table.mask)
    return replace(dataset, features=features)


def permuted(dataset: Dataset, user: Tensor, item: Tensor) -> Dataset:
    """Return the data set with user ``u`` in row ``user[u]`` and item ``i`` in row ``item[i]``."""
    old = torch.argsort(item)
    return replace(
        dataset,
        interactions=replace(dataset.interactions, user=user[dataset.interactions.user], item=item[dataset.interactions.item]),
        features={name: FeatureTable(name, table.values[old], table.mask[old]) for name, table in dataset.features.items()},
    )


def without_interactions(dataset: Dataset, user: int, item: int) -> Dataset:
    """Return the data set in which a user and an item have no interactions, and the item no features."""
    log = dataset.interactions
    for name in dataset.features:
        dataset = with_mask(dataset, name, torch.tensor([item]))
    return replace(dataset, interactions=log.take((log.user != user) & (log.item != item)))


def corner(dataset: Dataset, num_users: int, num_items: int) -> Dataset:
    """Return the first users and items of a data set, with the interactions between them."""
    log, sizes = dataset.interactions, {"user": num_users, "item": num_items}
    return replace(
        dataset,
        vocabularies={name: Vocabulary(ids.ids()[: sizes[name]], name=name) for name, ids in dataset.vocabularies.items()},
        interactions=log.take((log.user < num_users) & (log.item < num_items)),
        features={name: FeatureTable(name, t.values[:num_items], t.mask[:num_items]) for name, t in dataset.features.items()},
    )


def with_equal_features(dataset: Dataset) -> Dataset:
    """Return the data set with the same features for every item."""
    return replace(dataset, features={name: FeatureTable(name, torch.ones_like(t.values)) for name, t in dataset.features.items()})
