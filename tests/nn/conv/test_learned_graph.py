import pytest
import torch

from gmmrec.nn import nearest
from gmmrec.nn.conv.learned_graph import LearnedItemGraph
from tests.memory import Largest

I, F = 12, 5  # noqa: E741


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(k=4):
    torch.manual_seed(0)
    return LearnedItemGraph(F, 3, k).double()


def dense(graph, features, present):
    """Return the top-k graph as a matrix ``[item, neighbour]`` by sorting the full cosine matrix."""
    vectors = features @ graph.project.weight.t() + graph.project.bias
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    cosine = vectors @ vectors.t()
    kept = torch.zeros(len(features), len(features), dtype=torch.bool)
    rows = present.nonzero().flatten().tolist()
    for i in rows:
        order = sorted(rows, key=lambda j: (j != i, -float(cosine[i, j].detach())))
        kept[i, order[: graph.k]] = True
    return torch.where(kept, cosine, 0.0)


def matrix(edge_index, cosine):
    return torch.zeros(I, I, dtype=torch.float64).index_put((edge_index[1], edge_index[0]), cosine)


@pytest.mark.parametrize("missing", [[], [0, 7], list(range(I))], ids=str)
@pytest.mark.parametrize("k", [1, 4, 40])
def test_equals_the_dense_graph_in_values_and_gradients(missing, k):
    graph, features, present = build(k), draw(I, F), torch.ones(I, dtype=torch.bool)
    present[missing] = False
    edge_index, cosine = graph(features, present)
    expected, actual = dense(graph, features, present), matrix(edge_index, cosine)
    torch.testing.assert_close(actual, expected)
    upstream = draw(I, I, seed=1)
    parameters = [graph.project.weight, graph.project.bias]
    for gradient, reference in zip(
        torch.autograd.grad((actual * upstream).sum(), parameters),
        torch.autograd.grad((expected * upstream).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(gradient, reference)


def test_every_item_has_k_neighbours_and_unit_self_similarity():
    edge_index, cosine = build(4)(draw(I, F))
    assert torch.bincount(edge_index[1], minlength=I).tolist() == [4] * I
    assert edge_index.unique(dim=1).shape == edge_index.shape
    torch.testing.assert_close(matrix(edge_index, cosine).diagonal(), torch.ones(I, dtype=torch.float64))


def test_all_pairs_are_never_held_at_once(monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK_BYTES", 3 * 8 * 100)  # three rows per block
    graph, features = build(4), draw(100, F)
    with Largest() as largest:
        graph(features)[1].sum().backward()
    assert largest.numel < 100 * 100 / 5


def test_similarities_of_kept_pairs_use_the_current_weights():
    graph, features = build(), draw(I, F)
    pairs = graph.search(features)
    assert not pairs.requires_grad
    with torch.no_grad():
        graph.project.weight.copy_(draw(3, F, seed=5))
    vectors = torch.nn.functional.normalize(graph.project(features), dim=1)
    torch.testing.assert_close(graph.similarity(features, pairs), (vectors[pairs[0]] * vectors[pairs[1]]).sum(1))
