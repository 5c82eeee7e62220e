"""Slow reference implementation of IRN in float64, one item at a time, and its test data."""

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.irn import IRN, IRNConfig
from gmmrec.testing import I, U, checkerboard, toy_graph
from gmmrec.typing import ITEM_USER

D, HIDDEN = 8, 5


def build(dataset: Dataset | None = None, **settings) -> tuple[IRN, MultimodalGraph]:
    """Build a model with random stitch weights and biases, as after some training."""
    torch.manual_seed(0)
    graph = toy_graph(dataset or checkerboard(U, I)[0])
    model = IRN(graph.schema, IRNConfig(**{"dim": D, "hidden": HIDDEN, "init_std": 1.0, **settings})).eval()
    with torch.no_grad():
        model.bias.normal_()
        for name, parameter in model.named_parameters():
            if name.endswith("stitch.share"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model, graph


def history_of(graph: MultimodalGraph, user: int) -> list[int]:
    item, owner = graph.edges(ITEM_USER).edge_index.as_tensor()
    return item[owner == user].tolist()


def slow_content(model: IRN, graph: MultimodalGraph, item: int) -> tuple[Tensor, Tensor]:
    """Return the tower outputs ``[M, d]`` and the content ``[d]`` of one item, in float64."""
    present = [m for m, name in enumerate(model.names) if bool(graph.features[name].mask[item])]
    k = {}
    for m in present:
        x = graph.features[model.names[m]].values[item].double()
        k[m] = x / x.norm() if model.config.unit_features else x
    units = [
        ([layer.project for layer in model.first], model.stitch),
        *((layer.towers, layer.stitch) for layer in model.fuse.layers),
    ]
    for towers, stitch in units:
        h = {m: torch.relu(towers[m].weight.double() @ k[m] + towers[m].bias.double()) for m in present}
        for m in present:
            if model.config.share == "none":
                k[m] = h[m]
            elif model.config.share == "gate":
                k[m] = sum(torch.sigmoid(stitch.gate[m, o].double() @ h[o]) * h[o] for o in present)
            else:
                row = stitch.share[m].double()
                scale = row.abs().sum() / sum(row[o].abs() for o in present)
                k[m] = sum(scale * row[o] * h[o] for o in present)
    outputs, c = torch.zeros(len(model.names), D).double(), torch.zeros(D).double()
    if present:
        c = model.fuse.fuse.project.bias.double()
    for m in present:
        outputs[m] = k[m]
        c = c + model.fuse.fuse.project.weight[:, m * D : (m + 1) * D].double() @ k[m]
    return outputs, c


def slow_logit(model: IRN, p: Tensor, q: Tensor) -> Tensor:
    if model.config.attention == "mean":
        return torch.zeros(()).double()
    inputs = {"concat": [p, q], "prod": [p * q], "both": [p, q, p * q]}[model.config.pair]
    net = model.interest
    return net.logit.weight[0].double() @ torch.relu(net.hidden.weight.double() @ torch.cat(inputs) + net.hidden.bias.double())


def slow_weights(model: IRN, graph: MultimodalGraph, item: int, history: list[int]) -> tuple[dict[int, Tensor], Tensor]:
    """Return the weights of a history's items, except the target, and the score, in float64."""
    has_ids = model.targets is not None
    p = slow_content(model, graph, item)[1] + (model.targets[item].double() if has_ids else 0)
    q = {j: slow_content(model, graph, j)[1] + (model.past[j].double() if has_ids else 0) for j in history if j != item}
    f = {j: slow_logit(model, p, q[j]) for j in q}
    total = sum((x.exp() for x in f.values()), torch.zeros(()).double())
    a = {j: f[j].exp() / total**model.config.beta for j in f}
    return a, model.bias[item].double() + sum((a[j] * (p @ q[j]) for j in a), torch.zeros(()).double())
