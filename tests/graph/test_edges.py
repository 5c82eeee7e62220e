from itertools import permutations

import numpy as np
import pytest
import torch

from gmmrec.data.interactions import Interactions
from gmmrec.graph.edges import cooccurrence_edges, drop_edges, normalize
from gmmrec.typing import USER


def random_log(num_users=30, num_items=20, size=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Interactions(
        torch.randint(num_users, (size,), generator=generator), torch.randint(num_items, (size,), generator=generator)
    )


def test_normalize_equals_the_dense_laplacian():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(5, 7, generator=generator, dtype=torch.double) * (torch.rand(5, 7, generator=generator) < 0.5)
    edge_index = dense.nonzero().t()
    weight = dense[edge_index[0], edge_index[1]]
    expected = dense / (dense.sum(1, keepdim=True) * dense.sum(0)).sqrt()
    found = normalize(edge_index, (5, 7), weight.float())
    torch.testing.assert_close(found.double(), expected[edge_index[0], edge_index[1]], atol=1e-6, rtol=0)


def test_incoming_degrees_normalise_a_knn_graph_by_row_sums():
    neighbor, node = torch.tensor([0, 1, 1, 0, 2, 0]), torch.tensor([0, 0, 1, 1, 2, 2])  # two neighbours each
    edge_index = torch.stack([neighbor, node])
    assert normalize(edge_index, (3, 3), degrees="incoming").tolist() == [0.5] * 6
    both = normalize(edge_index, (3, 3))
    torch.testing.assert_close(both, torch.tensor([6, 4, 4, 6, 2, 6]).rsqrt())


def test_nodes_without_weight_yield_zero_not_nan():
    found = normalize(torch.tensor([[0, 1], [0, 1]]), (3, 3), torch.tensor([0.0, 4.0]))
    assert found.tolist() == [0.0, 1.0]
    assert normalize(torch.empty(2, 0, dtype=torch.long), (3, 3)).shape == (0,)


@pytest.mark.parametrize("weighting", ["count", "cosine"])
@pytest.mark.parametrize("block_entries", [1, 70, 4096])
@pytest.mark.parametrize("node_type", ["item", "user"])
def test_cooccurrence_equals_the_dense_product(weighting, block_entries, node_type):
    log = random_log()
    incidence = np.zeros((30, 20))
    incidence[log.user, log.item] = 1
    incidence = incidence.T if node_type == "item" else incidence
    num_nodes = incidence.shape[0]
    common = incidence @ incidence.T
    if weighting == "cosine":
        degrees = np.sqrt(np.diag(common)).clip(min=1)
        common = common / np.outer(degrees, degrees)
    edge_index, weight = cooccurrence_edges(
        log, num_nodes, 4, node_type=node_type, weighting=weighting, block_entries=block_entries
    )
    expected = []
    for i in range(num_nodes):
        others = [j for j in range(num_nodes) if j != i and common[i, j] > 0]
        expected += [(j, i) for j in sorted(others, key=lambda j, i=i: (-round(common[i, j], 9), j))[:4]]
    assert edge_index.t().tolist() == [list(pair) for pair in expected]
    np.testing.assert_allclose(weight, [common[i, j] for j, i in expected], rtol=1e-6)


def test_cooccurrence_of_items_without_interactions():
    edge_index, weight = cooccurrence_edges(Interactions(torch.tensor([0, 0]), torch.tensor([1, 3])), 6, 2)
    assert edge_index.tolist() == [[3, 1], [1, 3]]
    assert weight.tolist() == [1, 1]
    nothing = torch.empty(0, dtype=torch.long)
    assert cooccurrence_edges(Interactions(nothing, nothing), 3, 2, node_type=USER)[0].shape == (2, 0)


def test_kept_edges_are_drawn_sequentially_without_replacement():
    chance = torch.tensor([0.5, 0.3, 0.15, 0.05])
    exact = {}  # probability of every pair: the sum over both orders of drawing
    for first, second in permutations(range(4), 2):
        pair = tuple(sorted((first, second)))
        exact[pair] = exact.get(pair, 0) + float(chance[first] * chance[second] / (1 - chance[first]))
    generator, draws = torch.Generator().manual_seed(0), 6000
    edge_index = torch.zeros(2, 4, dtype=torch.long)
    counts = dict.fromkeys(exact, 0)
    for _ in range(draws):
        counts[tuple(drop_edges(edge_index, 2, 3 * chance, generator).tolist())] += 1
    for pair, p in exact.items():
        assert abs(counts[pair] / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5


def test_kept_positions_are_distinct_and_sorted():
    edge_index = torch.zeros(2, 1000, dtype=torch.long)
    kept = drop_edges(edge_index, 300, torch.rand(1000) + 0.1, torch.Generator().manual_seed(0))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) == 300
    everything = drop_edges(edge_index, 1000, torch.ones(1000), torch.Generator())
    assert everything.tolist() == list(range(1000))


def test_keeping_more_edges_than_possible_is_rejected():
    with pytest.raises(ValueError, match="between 0 and 1, the number of edges with a positive probability, but is 2"):
        drop_edges(torch.zeros(2, 2, dtype=torch.long), 2, torch.tensor([1.0, 0.0]), torch.Generator())
