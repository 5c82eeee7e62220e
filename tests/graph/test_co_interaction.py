import pytest
import torch
from torch import Tensor

from gmmrec.graph.co_interaction import co_interaction_graph
from gmmrec.testing import I, U, toy_graph
from gmmrec.typing import USER_ITEM


def slow(shared: Tensor, k: int, weights: str) -> Tensor:
    """Compute the graph by definition: the k strongest per node, ties to the lower row, either selection connects, normalised."""
    degrees = shared.diagonal().clone()
    shared = shared - torch.diag(degrees)
    ranked = shared / (degrees[:, None] * degrees).sqrt() if weights == "cosine" else shared
    chosen = torch.zeros_like(shared)
    for i in range(len(shared)):
        best = sorted((j for j in range(len(shared)) if ranked[i, j] > 0), key=lambda j: (-float(ranked[i, j]), j))[:k]
        for j in best:
            chosen[i, j] = 1.0 if weights == "binary" else ranked[i, j]
    both = torch.maximum(chosen, chosen.T)
    degree = both.sum(1).clamp(min=1e-12)
    return both / (degree[:, None] * degree).sqrt()


@pytest.mark.parametrize("weights", ["count", "cosine", "binary"])
@pytest.mark.parametrize("node_type", ["user", "item"])
def test_graph_equals_its_definition(node_type: str, weights: str) -> None:
    graph = toy_graph()
    r = torch.zeros(U, I, dtype=torch.float64)
    r[tuple(graph.edges(USER_ITEM).edge_index.as_tensor())] = 1
    (source, target), weight = co_interaction_graph(graph, node_type, k=3, weights=weights)
    count = U if node_type == "user" else I
    matrix = torch.zeros(count, count, dtype=torch.float64)
    matrix[target, source] = weight.double()
    expected = slow(r @ r.T if node_type == "user" else r.T @ r, 3, weights)
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(matrix, matrix.T)
    assert not bool(matrix.diagonal().any())
