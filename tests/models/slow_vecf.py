"""Reference implementation of VECF in float64, one pair at a time, and its test data."""

from dataclasses import replace

import torch
from torch import Tensor

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.reviews import Reviews
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models.vecf import VECF, VECFConfig
from gmmrec.testing import I, U, checkerboard, toy_graph

D, R, WORDS = 8, 4, 12
BARE = 5  # an item without an image


def region_table() -> FeatureTable:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(I, R, generator=generator) < 0.7
    mask[0], mask[BARE] = True, False
    return FeatureTable("regions", torch.randn(I, R, 5, generator=generator), mask)


def data(regions: FeatureTable | None = None, *, reviews: bool = True) -> Dataset:
    """The checkerboard with regions, and with reviews of two thirds of the interactions."""
    dataset, _ = checkerboard(U, I)
    generator = torch.Generator().manual_seed(1)
    count = len(dataset.interactions)
    lengths = torch.randint(1, 6, (count, 1), generator=generator)
    tokens = torch.randint(1, WORDS, (count, 5), generator=generator).masked_fill(torch.arange(5) >= lengths, 0).int()
    log = dataset.interactions
    log = Interactions(log.user, log.item, review=torch.arange(count).masked_fill(torch.arange(count) % 3 == 0, -1))
    dataset = replace(dataset, features={**dataset.features, "regions": regions or region_table()})
    return replace(dataset, interactions=log, reviews=Reviews(tokens, tuple("_?abcdefghij"))) if reviews else dataset


def build(dataset: Dataset | None = None, **settings) -> tuple[VECF, MultimodalGraph]:
    torch.manual_seed(0)
    graph = toy_graph(dataset or data())
    model = VECF(graph.schema, VECFConfig(**{"dim": D, "init_std": 1.0, "state_dim": 6, **settings})).eval()
    if model.attend is not None:
        with torch.no_grad():
            for parameter in model.attend.parameters():
                parameter.normal_()
    return model, graph


def slow(model: VECF, graph: MultimodalGraph, user: int, item: int) -> tuple[float, list[float], Tensor]:
    """Return the logit, the weights of all regions and the user-specific image of one pair, in float64."""
    w, config = {name: p.detach().double() for name, p in model.named_parameters()}, model.config
    p, q = w["users"][user], w["items"][item]
    present, regions = [], []
    for m, name in enumerate(model.names):
        table = graph.features[name]
        for is_present, x in zip(table.mask[item].view(-1), table.values[item].double().view(-1, table.dim), strict=True):
            present.append(bool(is_present))
            if is_present:
                x = w[f"encoders.{m}.project.weight"] @ (x / x.norm()) + w[f"encoders.{m}.project.bias"]
                regions.append((x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5))
    logits = []
    for f in regions:
        if config.attention == "mean":
            logits.append(torch.tensor(0.0).double())
        elif config.attention == "product":
            products = (w["attend.query.weight"] @ p) * (w["attend.key.weight"] @ f)
            logits.append(w["attend.logit.weight"][0] @ products.clamp(min=0))
        else:
            total = w["attend.query.weight"][0] @ p + w["attend.query.bias"][0] + w["attend.key.weight"][0] @ f
            logits.append(total.clamp(min=0))
    shares = iter(torch.stack(logits).softmax(0).tolist() if logits else [])
    al = [next(shares) if is_present else 0.0 for is_present in present]
    image = sum((a * f for a, f in zip(filter(None, al), regions, strict=True)), torch.zeros(D).double())
    if config.image:
        scale = config.scale if config.scale is not None else 1.0 if config.merge == "mul" else 0.5
        projected = scale * w["merge.project.weight"] @ image
        if config.merge == "concat":
            q = torch.cat([q, projected])
        elif regions:
            q = q * projected if config.merge == "mul" else (1 - scale) * q + projected
    if config.predictor == "dot":
        return float(p @ q), al, image
    if config.predictor == "fm":
        x = torch.cat([p, q])
        linear, v = (torch.cat([w[f"predict.{kind}.{side}"] for side in (0, 1)]) for kind in ("weights", "factors"))
        y = linear @ x + sum((v[a] @ v[b]) * x[a] * x[b] for a in range(len(x)) for b in range(a))
        return float(y), al, image
    h = torch.sigmoid(w["predict.query.weight"] @ p + w["predict.candidate.weight"] @ q + w["predict.query.bias"])
    for layer in range(1, config.num_layers):
        name = f"predict.rest.{3 * layer - 1}"
        h = torch.sigmoid(w[f"{name}.weight"] @ h + w[f"{name}.bias"])
    return float(w[f"predict.rest.{3 * config.num_layers - 1}.weight"][0] @ h), al, image
