import json

import networkx as nx
import numpy as np
import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph import describe as module
from gmmrec.graph.build import build_graph
from gmmrec.graph.describe import agreement, describe, to_networkx
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.typing import ITEM, ITEM_ITEM, USER
from tests.graph.whole import random_graph


def generator():
    return torch.Generator().manual_seed(0)


def small_graph():
    """Return a graph where users 0 and 1 share items 0 and 1, user 2 has item 2, and user 3 and item 3 have no edges."""
    log = Interactions(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 1, 2]))
    nothing = log.take(torch.arange(0))
    features = {
        "image": FeatureTable("image", torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])),
        "text": FeatureTable("text", torch.ones(4, 1), torch.tensor([True, False, False, False])),
    }
    vocabularies = {name: Vocabulary(range(4), name=name) for name in (USER, ITEM)}
    return build_graph(Dataset("small", vocabularies, log, features), Split(log, nothing, nothing))


def test_summary_equals_counts_by_hand():
    summary = describe(small_graph(), generator=generator(), knn=1, dim=8, num_layers=2)
    assert summary["nodes"] == {
        USER: {"count": 4, "degree": {"min": 0, "median": 1, "mean": 1.25, "max": 2}, "cold": 0.25, "isolated": 0.25},
        ITEM: {"count": 4, "degree": {"min": 0, "median": 1, "mean": 1.25, "max": 2}, "cold": 0.25, "isolated": 0.25},
    }
    assert summary["edges"] == {"user-interacts-item": 5, "item-rev_interacts-user": 5}
    assert summary["density"] == 5 / 16
    assert summary["components"] == {"count": 4, "largest": 0.5}
    assert summary["modalities"]["image"]["missing"] == 0
    assert summary["modalities"]["text"] == {"node_type": ITEM, "dim": 1, "missing": 0.75, "agreement": None}
    # nearest by image: 0 and 1 (cosine 1) find each other, 2 finds 1 (cosine 0); item 3 is excluded
    assert summary["modalities"]["image"]["agreement"]["neighbors"] == pytest.approx(2 / 3)
    assert json.loads(json.dumps(summary)) == summary


def test_isolated_node_has_no_edge_of_any_relation():
    graph = small_graph().with_edges(ITEM_ITEM, torch.tensor([[0, 3], [3, 3]]))
    summary = describe(graph, generator=generator(), knn=0)
    assert summary["nodes"][ITEM]["isolated"] == 0
    assert summary["nodes"][ITEM]["cold"] == 0.25
    assert summary["modalities"]["image"]["agreement"] is None
    only_itself = small_graph().with_edges(ITEM_ITEM, torch.tensor([[3], [3]]))
    assert describe(only_itself, generator=generator(), knn=0)["nodes"][ITEM]["isolated"] == 0.25


def test_agreement_equals_the_dense_cosine(monkeypatch):
    graph = random_graph(size=400)
    incidence = torch.zeros(60, 40, dtype=torch.double)
    source, target = graph.edges(("user", "interacts", "item")).edge_index.as_tensor()
    incidence[source, target] = 1
    unit = incidence / incidence.norm(dim=0).clamp(min=1)
    cosine = (unit.T @ unit).numpy()
    # features that are the interactions themselves agree as well as possible
    best = FeatureTable("likes", unit.T.float())
    found = agreement(graph, best, 3, generator())
    ranked = np.sort(np.where(np.eye(40, dtype=bool), -1, cosine), axis=1)[:, -3:]
    assert found["neighbors"] == pytest.approx(ranked.mean(), abs=1e-5)
    everywhere = cosine[~np.eye(40, dtype=bool)].mean()
    assert found["random"] == pytest.approx(everywhere, abs=0.06)
    assert found["neighbors"] > 2 * found["random"]
    assert agreement(graph, best, 3, generator()) == found
    monkeypatch.setattr(module, "MAX_PAIRS", 50)
    assert agreement(graph, best, 3, generator())["neighbors"] == pytest.approx(found["neighbors"], abs=0.1)


def test_memory_forecast_equals_that_of_parameters_and_adam():
    graph = random_graph()
    summary = describe(graph, generator=generator(), knn=0, dim=8)["memory"]
    model = LightGCN(graph.schema, LightGCNConfig(dim=8))
    optimizer = torch.optim.Adam(model.parameters())
    sum(value.sum() for value in model.encode(graph).values()).backward()
    optimizer.step()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert summary["parameters"] == summary["gradients"] == size
    assert summary["adam"] == sum(m.numel() * m.element_size() for m in moments)
    assert summary["total"] == sum(value for name, value in summary.items() if name != "total")
    assert summary["activations"] == 5 * size  # of three layers, the tables themselves, and a gradient
    assert describe(graph, generator=generator(), knn=0, dim=8, num_layers=1)["memory"]["activations"] == 3 * size


def test_networkx_has_every_node_and_edge():
    graph = small_graph().with_edges(ITEM_ITEM, torch.tensor([[0], [3]]))
    found = to_networkx(graph)
    assert isinstance(found, nx.MultiDiGraph)
    assert found.number_of_nodes() == 8
    assert found.number_of_edges() == 11
    assert found.nodes[1] == {"type": "user", "row": 1, "degree": 2.0}
    assert found.nodes[4 + 2] == {"type": "item", "row": 2, "degree": 1.0}
    assert found.edges[2, 6, 0] == {"type": ("user", "interacts", "item"), "edge_weight": 1.0}
    assert found.edges[4, 7, 0] == {"type": ITEM_ITEM, "edge_weight": 1.0}
    assert nx.number_weakly_connected_components(found) == 3
