import pytest
import torch
from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.models import graph_filter
from gmmrec.models.graph_filter import ALIKE, GraphFilter, GraphFilterConfig
from gmmrec.testing import I, U, score_all, toy_graph
from gmmrec.typing import USER_ITEM


def fitted(**settings) -> tuple[GraphFilter, MultimodalGraph]:
    graph = toy_graph()
    model = GraphFilter(graph.schema, GraphFilterConfig(**settings))
    return model, model.prepare(graph)


def interactions(graph: MultimodalGraph) -> Tensor:
    matrix = torch.zeros(U, I, dtype=torch.float64)
    matrix[tuple(graph.edges(USER_ITEM).edge_index.as_tensor())] = 1
    return matrix


def normalised(r: Tensor, power: float) -> Tensor:
    return r.sum(1).clamp(min=1)[:, None] ** -0.5 * r * r.sum(0).clamp(min=1) ** -power


def test_defaults_are_the_linear_gf_cf_filter() -> None:
    model, graph = fitted()
    r = interactions(graph)
    n, degree = normalised(r, 0.5), r.sum(0).clamp(min=1).sqrt()
    torch.testing.assert_close(model.weights.double(), (n.T @ n) / degree[:, None] * degree, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(score_all(model, graph).double(), r @ model.weights.double(), rtol=1e-5, atol=1e-6)


def test_hops_and_feature_propagation_equal_dense_matrices() -> None:
    model, graph = fitted(item_power=0.3, second_hop=0.5, item_weight=0.4, item_layers=2, knn=4)
    edge_index, weight = graph.edges(ALIKE)
    alike = torch.zeros(I, I, dtype=torch.float64)
    source, target = edge_index.as_tensor()
    alike[target, source] = weight.double()
    r = interactions(graph)
    w, second = (normalised(r, p).T @ normalised(r, p) for p in (0.3, 0.5))
    flow = torch.eye(I, dtype=torch.float64) + 0.4 * alike.T + 0.16 * alike.T @ alike.T
    degree = r.sum(0).clamp(min=1) ** 0.3
    expected = (w @ (torch.eye(I) + 0.5 * second) @ flow) / degree[:, None] * degree
    torch.testing.assert_close(model.weights.double(), expected, rtol=1e-4, atol=1e-6)


def test_longer_paths_and_propagation_at_both_ends_equal_dense_matrices() -> None:
    model, graph = fitted(hops=3, item_weight=0.4, item_layers=1, item_ends="both", knn=4)
    edge_index, weight = graph.edges(ALIKE)
    alike = torch.zeros(I, I, dtype=torch.float64)
    source, target = edge_index.as_tensor()
    alike[target, source] = weight.double()
    r = interactions(graph)
    n, flow = normalised(r, 0.5), torch.eye(I, dtype=torch.float64) + 0.4 * alike.T
    degree = r.sum(0).clamp(min=1).sqrt()
    expected = (flow @ torch.linalg.matrix_power(n.T @ n, 3) @ flow) / degree[:, None] * degree
    torch.testing.assert_close(model.weights.double(), expected, rtol=1e-4, atol=1e-6)


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = fitted(second_hop=0.5, item_weight=0.4)
    monkeypatch.setattr(graph_filter, "BLOCK_ENTRIES", 5 * I)
    blocks, _ = fitted(second_hop=0.5, item_weight=0.4)
    torch.testing.assert_close(blocks.weights, whole.weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"item_power": -1.0}, "item_power must be 0 or more"),
        ({"item_layers": 0}, "item_layers must be greater than 0"),
        ({"hops": 0}, "hops must be greater than 0"),
        ({"item_ends": "none"}, "item_ends must be one of"),
        ({"knn_weighting": "linear"}, "knn_weighting must be one of"),
        ({"knn_degrees": "outgoing"}, "knn_degrees must be one of"),
    ],
)
def test_invalid_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphFilterConfig(**settings)
