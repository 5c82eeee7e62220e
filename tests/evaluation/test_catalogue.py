"""Coverage, novelty and diversity against slow loops."""

import math

import torch
from torch_geometric.metrics import LinkPredCoverage

from gmmrec.evaluation.catalogue import coverage, diversity, novelty

TOP = torch.tensor([[0, 3, 4], [3, 5, -1], [2, -1, -1], [-1, -1, -1]])


def test_coverage_counts_each_item_once_and_agrees_with_pyg():
    assert coverage(TOP, 10) == 5 / 10
    full = torch.tensor([[0, 3], [3, 7]])
    reference = LinkPredCoverage(2, num_dst_nodes=10)
    reference.update(full, torch.zeros(2, 0, dtype=torch.long))
    assert math.isclose(coverage(full, 10), float(reference.compute()), rel_tol=1e-6)


def test_novelty_in_bits():
    count = torch.tensor([8.0, 0.0, 1.0, 4.0, 2.0, 1.0])  # 16 interactions: 1, 4 (unseen counts as one), 4, 2, 3, 4 bits
    found = novelty(TOP, count)
    torch.testing.assert_close(found[:3], torch.tensor([2.0, 3.0, 4.0]))
    assert bool(found[3].isnan())
    assert novelty(torch.tensor([[1]]), count).item() == 4


def test_diversity_equals_the_mean_over_all_pairs():
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    vectors[4] = 0  # without features: takes no part
    found = diversity(TOP, vectors)

    def distance(i: int, j: int) -> float:
        return 1 - float(torch.cosine_similarity(vectors[i].double(), vectors[j].double(), dim=0))

    torch.testing.assert_close(found[:2], torch.tensor([distance(0, 3), distance(3, 5)]))
    assert found[2:].isnan().all()
    triple = diversity(torch.tensor([[0, 2, 5]]), vectors)
    expected = (distance(0, 2) + distance(0, 5) + distance(2, 5)) / 3
    torch.testing.assert_close(triple, torch.tensor([expected]))
