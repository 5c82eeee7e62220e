import builtins

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from gmmrec.data.features import FeatureTable
from gmmrec.graph import knn
from gmmrec.graph.knn import knn_edges


def table(num_rows=50, dim=7, *, missing=(), seed=0):
    values = torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(num_rows, dtype=torch.bool)
    mask[list(missing)] = False
    return FeatureTable("image", values, mask)


def dense(features, k, *, include_self):
    """Find neighbours and similarities by sorting the dense matrix in float64."""
    unit = features.values.double() / features.values.double().norm(dim=-1, keepdim=True)
    expected = {}
    present = features.mask.nonzero().flatten().tolist()
    for i in present:
        ranked = sorted((j for j in present if j != i), key=lambda j: (-float(unit[i] @ unit[j]), j))
        chosen = [i, *ranked[: k - 1]] if include_self else ranked[:k]
        expected[i] = [(j, float(unit[i] @ unit[j])) for j in chosen]
    return expected


def by_target(edge_index, weight):
    found = {}
    for j, i, w in zip(*edge_index.tolist(), weight.tolist(), strict=True):
        found.setdefault(i, []).append((j, w))
    return found


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("block_size", [None, 1, 7])
def test_exact_search_equals_the_dense_matrix(include_self, block_size):
    features = table(missing=(0, 13, 49))
    edge_index, weight = knn_edges(features, 5, include_self=include_self, weighting="cosine", block_size=block_size)
    expected, found = dense(features, 5, include_self=include_self), by_target(edge_index, weight)
    assert list(found) == list(expected)
    for i, neighbors in expected.items():
        assert [j for j, _ in found[i]] == [j for j, _ in neighbors]
        np.testing.assert_allclose([w for _, w in found[i]], [w for _, w in neighbors], atol=1e-6)
    binary_index, ones = knn_edges(features, 5, include_self=include_self, block_size=block_size)
    assert torch.equal(binary_index, edge_index)
    assert torch.equal(ones, torch.ones_like(weight))


def test_agrees_with_scikit_learn():
    features = table(200, 12)
    edge_index, weight = knn_edges(features, 9, include_self=False, weighting="cosine")
    distance, index = NearestNeighbors(n_neighbors=10, metric="cosine").fit(features.values.numpy()).kneighbors()
    distance, index = distance[:, :9], index[:, :9]  # without an argument, scikit-learn excludes the point itself
    assert np.array_equal(edge_index[0].view(200, 9).numpy(), index)
    np.testing.assert_allclose(weight.view(200, 9).numpy(), 1 - distance, atol=1e-6)


def test_faiss_agrees_with_the_exact_search():
    features = table(300, 16, missing=(5, 6))
    for include_self in (True, False):
        exact = knn_edges(features, 6, include_self=include_self, weighting="cosine")
        faiss = knn_edges(features, 6, include_self=include_self, weighting="cosine", backend="faiss", block_size=64)
        assert torch.equal(exact[0], faiss[0])
        torch.testing.assert_close(exact[1], faiss[1], atol=1e-6, rtol=0)


def test_approximate_search_finds_most_neighbours(monkeypatch):
    monkeypatch.setattr(knn, "MIN_TRAINING", 2000)
    group = torch.arange(2000) % 40
    values = 3 * torch.randn(40, 16, generator=torch.Generator().manual_seed(1))[group]
    features = FeatureTable("image", values + torch.randn(2000, 16, generator=torch.Generator().manual_seed(2)))
    exact, _ = knn_edges(features, 10, include_self=False)
    found, weight = knn_edges(features, 10, include_self=False, weighting="cosine", backend="faiss_approximate")
    assert found.shape == exact.shape
    shared = np.intersect1d(exact[0] * 2000 + exact[1], found[0] * 2000 + found[1]).size / exact.shape[1]
    assert shared > 0.8
    unit = torch.nn.functional.normalize(features.values, dim=-1)
    torch.testing.assert_close(weight, (unit[found[0]] * unit[found[1]]).sum(-1))
    assert bool((found[0] != found[1]).all())


def test_ties_are_broken_in_row_order():
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    edge_index, _ = knn_edges(FeatureTable("image", values), 3)
    assert by_target(edge_index, torch.ones(18)) == {
        0: [(0, 1), (5, 1), (1, 1)],
        1: [(1, 1), (2, 1), (3, 1)],
        2: [(2, 1), (1, 1), (3, 1)],
        3: [(3, 1), (1, 1), (2, 1)],
        4: [(4, 1), (1, 1), (2, 1)],
        5: [(5, 1), (0, 1), (1, 1)],
    }


def test_node_is_its_own_first_neighbour_and_has_exactly_k():
    values = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).repeat(4, 1)  # every node has three duplicates
    edge_index, weight = knn_edges(FeatureTable("image", values), 4, weighting="cosine")
    assert edge_index[0].view(-1, 4)[:, 0].tolist() == list(range(120))
    assert torch.equal(edge_index[1].bincount(), torch.full((120,), 4))
    assert torch.equal(weight.view(-1, 4)[:, 0], torch.ones(120))


@pytest.mark.parametrize(("include_self", "edges"), [(True, 9), (False, 6)])
def test_fewer_nodes_than_k(include_self, edges):
    features = table(5, missing=(1, 3))
    edge_index, weight = knn_edges(features, 10, include_self=include_self)
    assert edge_index.shape == (2, edges)
    assert weight.shape == (edges,)
    assert set(edge_index.unique().tolist()) == {0, 2, 4}


def test_single_node_and_no_nodes():
    assert knn_edges(table(3, missing=(0, 1)), 2)[0].tolist() == [[2], [2]]
    assert knn_edges(table(3, missing=(0, 1)), 2, include_self=False)[0].shape == (2, 0)
    assert knn_edges(table(3, missing=(0, 1, 2)), 2)[0].shape == (2, 0)
    assert knn_edges(table(4), 1)[0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_missing_tokens_contribute_nothing():
    values = torch.randn(12, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(12, 3, dtype=torch.bool)
    mask[:, 2] = False
    mask[7] = False
    means = FeatureTable("words", values[:, :2].mean(1), mask.any(1))
    tokens, plain = knn_edges(FeatureTable("words", values, mask), 3, weighting="cosine"), knn_edges(means, 3, weighting="cosine")
    assert torch.equal(tokens[0], plain[0])
    torch.testing.assert_close(tokens[1], plain[1])


def test_vector_norms_are_irrelevant():
    features = table()
    scaled = FeatureTable("image", features.values * torch.arange(1, 51)[:, None])
    assert torch.equal(knn_edges(features, 4)[0], knn_edges(scaled, 4)[0])


def test_invalid_arguments_are_rejected(monkeypatch):
    with pytest.raises(ValueError, match="k must be greater than 0"):
        knn_edges(table(), 0)
    with pytest.raises(ValueError, match="weighting must be one of"):
        knn_edges(table(), 2, weighting="euclid")
    with pytest.raises(ValueError, match="backend must be one of"):
        knn_edges(table(), 2, backend="annoy")
    with pytest.raises(ValueError, match="at least 10000 nodes for training, but only 50"):
        knn_edges(table(), 2, backend="faiss_approximate")
    real = builtins.__import__

    def without_faiss(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(ValueError, match=r"pip install gmmrec\[faiss\]"):
        knn_edges(table(), 2, backend="faiss")
