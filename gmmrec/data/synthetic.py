"""A synthetic data set of any size whose features say something about who likes what: for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from gmmrec.config import check_positive, check_probability
from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class SyntheticConfig:
    """Size and nature of the log."""

    num_users: int = 1000
    """Users; a few may draw no interaction."""
    num_items: int = 500
    """Items, of which popular ones draw most interactions."""
    num_interactions: int = 20_000
    """Distinct user-item pairs, at most half of those of users with items of their favoured clusters."""
    num_clusters: int = 8
    """Clusters of items; every user favours one of them."""
    noise: float = 0.2
    """Share of the interactions that go to any item instead of one of the favoured cluster."""
    dims: Mapping[str, int] = field(default_factory=lambda: {"image": 32, "text": 16})
    """Width by modality; a vector is the centre of its item's cluster plus noise."""
    missing: float = 0.0
    """Share of the items without a modality, drawn for each modality on its own."""

    def __post_init__(self) -> None:
        check_positive(num_users=self.num_users, num_items=self.num_items, num_interactions=self.num_interactions)
        check_positive(num_clusters=self.num_clusters, **self.dims)
        check_probability(noise=self.noise, missing=self.missing)
        if self.num_clusters > self.num_items:
            raise ValueError(f"num_clusters must be at most num_items ({self.num_items}), but is {self.num_clusters}")
        limit = self.num_users * self.num_items // (2 * self.num_clusters)
        if self.num_interactions > limit:
            raise ValueError(
                f"num_interactions must be at most num_users * num_items / (2 * num_clusters) = {limit}, "
                f"but is {self.num_interactions}"
            )


def synthetic_dataset(config: SyntheticConfig = SyntheticConfig(), generator: Generator | None = None) -> Dataset:
    """Draws a data set; the same generator state gives the same one.

    Item ``i`` belongs to cluster ``i % num_clusters``. Times grow with the position in the log, a minute each.

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
    """Distinct keys ``user * num_items + item`` ``[num_interactions]`` in random order, drawn until there are enough."""
    wanted = config.num_interactions
    keys = torch.empty(0, dtype=torch.long)
    while len(keys) < wanted:
        missing = wanted - len(keys)
        drawn = _draw(config, 2 * missing + 64, generator)
        new = torch.unique(torch.cat([keys, drawn]))
        new = new[~torch.isin(new, keys)]
        keys = torch.cat([keys, new[torch.randperm(len(new), generator=generator)[:missing]]])
    return keys[torch.randperm(wanted, generator=generator)]


def _draw(config: SyntheticConfig, count: int, generator: Generator | None) -> Tensor:
    """Keys ``[count]``, repeats allowed; some users are more active, and low numbers in a cluster more popular."""
    user = (config.num_users * torch.rand(count, generator=generator, dtype=torch.float64) ** 1.5).long()
    favoured = user % config.num_clusters
    anything = torch.randint(config.num_clusters, (count,), generator=generator)
    cluster = torch.where(torch.rand(count, generator=generator) < config.noise, anything, favoured)
    sizes = (config.num_items - cluster + config.num_clusters - 1) // config.num_clusters
    rank = (sizes * torch.rand(count, generator=generator, dtype=torch.float64) ** 2).long()
    return user * config.num_items + rank * config.num_clusters + cluster
