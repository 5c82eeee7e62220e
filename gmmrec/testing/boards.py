"""The checkerboard as a graph, and variants of it."""

from dataclasses import replace

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.split import Split
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
