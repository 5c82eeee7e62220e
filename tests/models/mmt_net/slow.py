"""Reference implementation of MMT-Net in float64, one pair at a time, and its test data."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.interactions import Interactions
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.mmt_net import MMTNet, MMTNetConfig
from gmmrec.tasks.context import time_context
from gmmrec.tasks.query import Batch, ContextQuery
from gmmrec.testing import I, U, checkerboard, toy_graph

HOUR = 3600


def timed(num_users: int = U, num_items: int = I, seed: int = 0) -> Dataset:
    """The checkerboard with one interaction every five hours."""
    dataset, _ = checkerboard(num_users, num_items, seed=seed)
    log = dataset.interactions
    time = 5 * HOUR * torch.randperm(len(log), generator=torch.Generator().manual_seed(seed))
    return replace(dataset, interactions=Interactions(log.user, log.item, time=time))


def build(dataset: Dataset | None = None, seed: int = 0, **settings) -> tuple[MMTNet, MultimodalGraph]:
    torch.manual_seed(seed)
    graph = toy_graph(dataset or timed())
    model = MMTNet(graph.schema, MMTNetConfig(**{"dim": 8, **settings})).eval()
    for p in model.parameters():  # as if trained: neither zeros nor ones
        if p.dim() < 2 or bool((p == 0).all()):
            torch.nn.init.normal_(p, std=0.5)
    return model, model.prepare(graph)


def events(dataset: Dataset, count: int = 6) -> Batch[ContextQuery]:
    log = dataset.interactions.take(torch.arange(0, len(dataset.interactions), len(dataset.interactions) // count)[:count])
    assert log.time is not None
    negative = torch.stack([log.item + 1, log.item + 3], 1) % I
    return Batch(ContextQuery(log.user, time_context(log.time)), log.item, negative)


def slow_score(model: MMTNet, graph: MultimodalGraph, user: int, event: list[float], item: int, *, without: int | None = None):
    """Score one pair in float64; the interaction of the user with the item ``without`` is excluded from both histories."""
    weight = {name: value.double() for name, value in model.state_dict().items()}
    ends = graph.edges(("user", "interacts", "item")).edge_index.as_tensor().t().tolist()
    history = [i for u, i in ends if u == user and i != without]
    users = [u for u, i in ends if i == item and not (i == without and u == user)]

    def standard(kind: str, degree: int) -> float:
        degrees = graph.degree(kind).double().log1p()
        return float((math.log1p(degree) - degrees.mean()) / degrees.std(correction=0))

    profile, attributes, distances = [], [], []
    present = {"user": [], "item": []}
    for name in ("image", "text"):
        table = graph.features[name]
        rows = table.values[table.mask].double()
        scale = rows.std(0, correction=0)
        features = (table.values.double() - rows.mean(0)) / torch.where(scale > 0, scale, 1.0)
        with_features = [i for i in history if bool(table.mask[i])]
        mean = sum((features[i] for i in with_features), torch.zeros(table.dim).double()) / max(1, len(with_features))
        is_present = bool(table.mask[item])
        x = features[item] if is_present else torch.zeros(table.dim).double()
        distance = float((mean - x).square().mean().sqrt())
        profile.append(mean)
        attributes.append(x)
        present["user"].append(float(bool(with_features)))
        present["item"].append(float(is_present))
        distances.append(math.log(distance + 0.1) if with_features and is_present else 0.0)

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    historical = [
        column([standard("user", len(history))]),
        *profile,
        column(present["user"]),
        column([standard("item", len(users))]),
    ]
    groups = [column(event), torch.cat(historical), torch.cat([*attributes, column(present["item"]), column(distances)])]
    shifted = []
    for m, group in enumerate(groups):
        others = torch.cat([torch.zeros_like(g) if n == m else g for n, g in enumerate(groups)])
        rows = slice(sum(len(g) for g in groups[:m]), sum(len(g) for g in groups[: m + 1]))
        shift = torch.tanh(weight["context.others.weight"][rows] @ others + weight["context.others.bias"][rows])
        shifted.append(group + weight["context.factor"][m] * shift)
    c = torch.cat(shifted)
    z = torch.relu(weight["context.first.weight"] @ c + weight["context.first.bias"])
    layer = "context.layers.0."
    z = torch.relu(weight[layer + "weight"] @ (z * (weight["context.factors.0.weight"] @ c)) + weight[layer + "bias"])
    sides = []
    for kind, row in (("user", user), ("item", item)):
        hidden = weight[f"{kind}s"][row] * z
        sides.append(torch.relu(weight[f"reshape.{kind}.layers.0.weight"] @ hidden + weight[f"reshape.{kind}.layers.0.bias"]))
    biases = weight["user_bias"][user] + weight["item_bias"][item] + weight["context_bias.weight"] @ z + weight["context_bias.bias"]
    return float(sides[0] @ sides[1] + biases)
