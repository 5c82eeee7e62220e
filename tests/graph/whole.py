"""Random toy graphs for the tests in this folder."""

from dataclasses import replace

import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.testing import checkerboard


def random_split(num_users: int, num_items: int, size: int, *, seed: int = 0) -> tuple[Dataset, Split]:
    """Return a data set with ``size`` random interactions (pairs repeat), the last tenth for validation."""
    generator = torch.Generator().manual_seed(seed)
    dataset, _ = checkerboard(num_users, num_items)
    log = Interactions(
        torch.randint(num_users, (size,), generator=generator), torch.randint(num_items, (size,), generator=generator)
    )
    part = torch.arange(size) >= size * 9 // 10
    return replace(dataset, interactions=log), Split(log.take(~part), log.take(part), log.take(part[:0].nonzero().flatten()))


def random_graph(num_users: int = 60, num_items: int = 40, size: int = 150, *, seed: int = 0) -> MultimodalGraph:
    """Return a sparse graph in which some users and items are isolated."""
    return build_graph(*random_split(num_users, num_items, size, seed=seed))
