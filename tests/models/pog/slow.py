"""Reference implementation of POG and FOM in float64, one head and one query at a time, and its test data."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.pog.model import POG, POGConfig
from gmmrec.tasks.query import OutfitQuery
from gmmrec.testing import I, U, checkerboard, toy_graph

SMALL: dict[str, Any] = {"dim": 8, "hidden_dim": 12, "num_heads": 2}


def build(*, seed: int = 0, **settings: Any) -> tuple[POG, MultimodalGraph]:
    graph = toy_graph(with_kinds())
    torch.manual_seed(seed)
    model = POG(graph.schema, POGConfig(**{**SMALL, **settings})).eval()
    if model.again is not None:
        model.again.data.fill_(0.7)  # initialised to 0
    return model, graph


def with_kinds() -> Any:
    dataset = checkerboard(U, I)[0]
    kinds = F.one_hot(torch.arange(I) % 3, 3).float()
    return replace(dataset, features={**dataset.features, "category": FeatureTable("category", kinds)})


def make_query(num: int = 6, *, seed: int = 0) -> OutfitQuery:
    generator = torch.Generator().manual_seed(seed)
    outfit = torch.stack([torch.randperm(I, generator=generator)[:5] for _ in range(num)])
    mask = torch.rand(num, 5, generator=generator) < 0.7
    mask[0], mask[1] = True, False
    history = torch.randint(I, (num, 4), generator=generator)
    history_mask = torch.arange(4) >= torch.randint(4, (num, 1), generator=generator)
    history_mask[2] = False
    return OutfitQuery(torch.arange(num), outfit, mask, history, history_mask)


def scores_of(model: POG, graph: MultimodalGraph, query: OutfitQuery) -> Tensor:
    with torch.no_grad():
        return model.score(model.encode(graph), query, torch.arange(I))


def weights_of(model: POG) -> dict[str, Tensor]:
    return {name: value.double() for name, value in model.state_dict().items()}


def slow_items(model: POG, graph: MultimodalGraph) -> Tensor:
    w = weights_of(model)
    rows = []
    for i in range(I):
        x = w["bias"].clone()
        for name in model.embed:
            table = graph.features[name]
            if bool(table.present[i]):
                v = table.pooled[i].double()
                x += w[f"embed.{name}.weight"] @ (v / v.norm() if float(v.norm()) else v)
        if "items" in w and float(graph.degree("item")[i]) > 0:
            x += w["items"][i]
        rows.append(x)
    return torch.stack(rows)


def attended(w: dict[str, Tensor], name: str, queries: Tensor, tokens: Tensor, heads: int) -> Tensor:
    """Compute multi-head attention of each query over all tokens, one head and one query at a time."""
    q, k, v = (
        x @ w[f"{name}.{part}.weight"].T + w[f"{name}.{part}.bias"]
        for part, x in (("query", queries), ("key", tokens), ("value", tokens))
    )
    size = q.shape[1] // heads
    rows = []
    for i in range(len(queries)):
        parts = []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            parts.append(((k[:, cut] @ q[i, cut]) / math.sqrt(size)).softmax(0) @ v[:, cut])
        rows.append(torch.cat(parts))
    return torch.stack(rows) @ w[f"{name}.output.weight"].T + w[f"{name}.output.bias"]


def normal(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def perceptron(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    hidden = F.leaky_relu(x @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"])
    return hidden @ w[f"{name}.2.weight"].T + w[f"{name}.2.bias"]


def slow_set(w: dict[str, Tensor], name: str, x: Tensor, config: POGConfig) -> Tensor:
    h = perceptron(w, f"{name}.transition", x)
    for n in range(config.num_layers):
        layer = f"{name}.layers.{n}"
        z = normal(w, f"{layer}.norm", h + attended(w, f"{layer}.attention", h, h, config.num_heads))
        h = normal(w, f"{layer}.hidden_norm", z + perceptron(w, f"{layer}.feed", z))
    return h @ w[f"{name}.output.weight"].T


def slow_gen(w: dict[str, Tensor], x: Tensor, history: Tensor, config: POGConfig) -> Tensor:
    """Return predictions after the first 0, 1, ..., all items, each at a masked position; an empty history has no context."""
    if not len(history):
        return torch.stack([slow_position(w, x[:t], None, config) for t in range(len(x) + 1)])
    positioned = history + w["recency.table"][: len(history)].flip(0) if config.positions else history
    context = slow_set(w, "per", positioned, config)
    return torch.stack([slow_position(w, x[:t], context, config) for t in range(len(x) + 1)])


def slow_position(w: dict[str, Tensor], x: Tensor, context: Tensor | None, config: POGConfig) -> Tensor:
    """Return the prediction at a masked position after causally attended items."""
    h = perceptron(w, "gen.transition", torch.cat([x, w["start"][None]]))
    for n in range(config.num_layers):
        layer = f"gen.layers.{n}"
        messages = torch.cat([attended(w, f"{layer}.attention", h[t : t + 1], h[: t + 1], config.num_heads) for t in range(len(h))])
        z = normal(w, f"{layer}.norm", h + messages)
        read = 0.0 if context is None else attended(w, f"{layer}.context", z, context, config.num_heads)
        z = normal(w, f"{layer}.context_norm", z + read)
        h = normal(w, f"{layer}.hidden_norm", z + perceptron(w, f"{layer}.feed", z))
    return h[-1] @ w["gen.output.weight"].T


def slow_prediction(model: POG, x: Tensor, items: list[int], history: list[int]) -> Tensor:
    w = weights_of(model)
    if model.config.personal:
        return slow_gen(w, x[items], x[history], model.config)[-1]
    return slow_set(w, "fom", torch.cat([x[items], w["fom.unknown"][None]]), model.config)[-1]


def repeat_bonus(model: POG, history: list[int]) -> Tensor:
    """Return every item's bonus for being in the history."""
    return torch.tensor([0.7 if model.config.repeats and i in history else 0.0 for i in range(I)], dtype=torch.double)


def rows_of(values: Tensor, mask: Tensor) -> list[list[int]]:
    return [row[row_mask].tolist() for row, row_mask in zip(values, mask, strict=True)]
