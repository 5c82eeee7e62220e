"""Toys for the tests of training: a small graph, a task, and a model that also draws from the global generator."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.graph.build import build_graph
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.loss import bpr
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.query import UserQuery
from gmmrec.testing import checkerboard


@dataclass(frozen=True)
class DropoutConfig:
    dim: int = 6


class Dropout(Recommender[UserQuery, DropoutConfig]):
    """Matrix factorisation with dropout, and with a begin_epoch that draws from the generator it is given."""

    def __init__(self, schema, config=DropoutConfig()):
        super().__init__(schema, config)
        self.users = nn.Parameter(torch.randn(schema.num_nodes["user"], config.dim))
        self.items = nn.Parameter(torch.randn(schema.num_nodes["item"], config.dim))
        self.register_buffer("shift", torch.zeros(()))

    def begin_epoch(self, graph, generator):
        self.shift.copy_(torch.rand((), generator=generator))
        return graph

    def encode(self, graph):
        return Encoded({"user": self.users, "item": self.items})

    def score(self, encoded, query, candidates):
        items = F.embedding(candidates, encoded["item"])
        users = F.embedding(query.user, encoded["user"])
        return users @ items.t() if items.dim() == 2 else (items @ users[..., None]).squeeze(-1)

    def loss(self, graph, batch):
        dropped = {name: F.dropout(x, 0.2, self.training) for name, x in self.encode(graph).items()}
        scores = self.score(dropped, batch.query, batch.candidates)
        return {"bpr": bpr(scores[:, :1], scores[:, 1:]), "norm": 1e-3 * (1 + self.shift) * self.items.square().mean()}


def toy_task(batch_size: int = 16) -> tuple[MultimodalGraph, CollaborativeTask]:
    """The checkerboard's graph and task; the held-out likes are validation and test part."""
    dataset, mask = checkerboard()
    held_out = Interactions(*torch.nonzero(mask, as_tuple=True))
    split = Split(dataset.interactions, held_out, held_out)
    task = CollaborativeTask(TaskInputs(split, dataset.num_users, dataset.num_items, BatchConfig(batch_size)))
    return build_graph(dataset, split), task


def seeded(kind, graph, config, seed: int = 0):
    """A model with weights drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(graph.schema, config)


def mean_margin(graph: MultimodalGraph, task: CollaborativeTask):
    """Return a validation value: the mean margin of held-out likes over all items."""
    ranking = task.ranking("valid")

    def value(model) -> float:
        assert not model.training
        scores = model.score(model.encode(graph), ranking.query, torch.arange(task.num_items))
        return float(scores[ranking.relevant.groups, ranking.relevant.values].mean() - scores.mean())

    return value
