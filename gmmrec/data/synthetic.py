"""Synthetic data sets of any size with informative features, for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from gmmrec.config import check_positive, check_probability
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError


@dataclass(frozen=True)
class SyntheticConfig:
    """Size and structure of a synthetic data set."""

    num_users: int = 1000
    """Number of users; a few may have no interactions."""
    num_items: int = 500
    """Number of items; popular ones get most interactions."""
    num_interactions: int = 20_000
    """Number of distinct user-item pairs, at most half of all pairs of users with items of their favoured clusters."""
    num_clusters: int = 8
    """Number of item clusters; every user favours one of them."""
    noise: float = 0.2
    """Share of the interactions with any item instead of one of the favoured cluster."""
    dims: Mapping[str, int] = field(default_factory=lambda: {"image": 32, "text": 16})
    """Feature width by modality; a vector is the centre of its item's cluster plus noise."""
    missing: float = 0.0
    """Share of the items with a modality missing, drawn for each modality independently."""

    def __post_init__(self) -> None:
        check_positive(num_users=self.num_users, num_items=self.num_items, num_interactions=self.num_interactions)
        check_positive(num_clusters=self.num_clusters, **self.dims)
        check_probability(noise=self.noise, missing=self.missing)
        if self.num_clusters > self.num_items:
            raise UsageError(f"num_clusters must be at most num_items ({self.num_items}), but is {self.num_clusters}")
        limit = self.num_users * self.num_items // (2 * self.num_clusters)
        if self.num_interactions > limit:
            raise UsageError(
                f"num_interactions must be at most num_users * num_items / (2 * num_clusters) = {limit}, "
                f"but is {self.num_interactions}"
            )


def synthetic_dataset(config: SyntheticConfig = SyntheticConfig(), generator: Generator | None = None) -> Dataset:
    """Draw a data set; the same generator state gives the same data set.

    Item ``i`` belongs to cluster ``i % num_clusters``. Times increase by one minute per interaction.

    >>> dataset = synthetic_dataset(SyntheticConfig(num_users=20, num_items=12, num_interactions=40, num_clusters=3, missing=0.25))
    >>> dataset.num_users, dataset.num_items, len(dataset.interactions), dataset.features["image"].values.shape
    (20, 12, 40, torch.Size([12, 32]))
    """
    keys = _pairs(config, generator)
    log = Interactions(keys // config.num_items, keys % config.num_items, time=1_600_000_000 + 60 * torch.arange(len(keys)))
    cluster = torch.arange(config.num_items) % config.num_clusters
    features = {}
    for name, dim in config.dims.items():
        centres = torch.randn(config.num_clusters, dim, generator=generator)
        values = centres[cluster] + 0.5 * torch.randn(config.num_items, dim, generator=generator)
        mask = torch.rand(config.num_items, generator=generator) >= config.missing
        features[name] = FeatureTable(name, values, mask)
    vocabularies = {
        "user": Vocabulary(range(config.num_users), name="user"),
        "item": Vocabulary(range(config.num_items), name="item"),
    }
    return Dataset("synthetic", vocabularies, log, features)


def _pairs(config: SyntheticConfig, generator: Generator | None) -> Tensor:
    """Draw distinct keys ``user * num_items + item`` ``[num_interactions]`` in random order."""
    count = config.num_interactions
    keys = torch.empty(0, dtype=torch.long)
    while len(keys) < count:
        missing = count - len(keys)
        drawn = _draw(config, 2 * missing + 64, generator)
        new = torch.unique(torch.cat([keys, drawn]))
        new = new[~torch.isin(new, keys)]
        keys = torch.cat([keys, new[torch.randperm(len(new), generator=generator)[:missing]]])
    return keys[torch.randperm(count, generator=generator)]


def _draw(config: SyntheticConfig, count: int, generator: Generator | None) -> Tensor:
    """Draw keys ``[count]``, with repeats; low user numbers are more active, and low ranks in a cluster more popular."""
    user = (config.num_users * torch.rand(count, generator=generator, dtype=torch.float64) ** 1.5).long()
    favoured = user % config.num_clusters
    random = torch.randint(config.num_clusters, (count,), generator=generator)
    cluster = torch.where(torch.rand(count, generator=generator) < config.noise, random, favoured)
    sizes = (config.num_items - cluster + config.num_clusters - 1) // config.num_clusters
    rank = (sizes * torch.rand(count, generator=generator, dtype=torch.float64) ** 2).long()
    return user * config.num_items + rank * config.num_clusters + cluster
