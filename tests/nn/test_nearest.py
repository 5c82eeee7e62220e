import pytest
import torch

from gmmrec.nn.nearest import knn_among, knn_edges_to_pool, knn_excluding_self, largest


@pytest.mark.parametrize("block_size", [None, 1, 4])
@pytest.mark.parametrize("k", [0, 1, 5, 8])
def test_neighbours_equal_sorting_the_whole_matrix(block_size, k):
    vectors = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    similarity, position = (torch.cat(parts) for parts in zip(*knn_excluding_self(vectors, k, block_size), strict=True))
    whole = (vectors @ vectors.t()).detach().fill_diagonal_(-torch.inf).sort(1, descending=True)
    assert torch.equal(position, whole.indices[:, :k])
    torch.testing.assert_close(similarity, whole.values[:, :k])
    assert not similarity.requires_grad


def test_ties_go_to_the_first_rows():
    assert [position.tolist() for _, position in knn_excluding_self(torch.ones(4, 2), 2, 2)] == [[[1, 2], [0, 2]], [[0, 1], [0, 1]]]
    assert largest(torch.tensor([[0.0, 1.0, 1.0, 1.0]]), 2)[1].sort().values.tolist() == [[1, 2]]


def test_no_rows_have_no_neighbours():
    assert list(knn_excluding_self(torch.ones(0, 2), 0)) == []


@pytest.mark.parametrize("block_size", [None, 1, 4])
def test_neighbours_are_in_the_pool_and_never_the_row_itself(block_size):
    vectors = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pool = torch.tensor([1, 4, 5, 8])
    similarity, row = (torch.cat(parts) for parts in zip(*knn_among(vectors, pool, 3, block_size), strict=True))
    allowed = torch.zeros(9, 9, dtype=torch.bool)
    allowed[:, pool] = True
    whole = (vectors @ vectors.t()).masked_fill(~allowed | torch.eye(9, dtype=torch.bool), -torch.inf).sort(1, descending=True)
    assert torch.equal(row, whole.indices[:, :3])
    torch.testing.assert_close(similarity, whole.values[:, :3])


def test_row_alone_in_its_pool_has_no_neighbour():
    [(similarity, _)] = knn_among(torch.ones(2, 3), torch.tensor([0]), 1)
    assert similarity.flatten().tolist() == [-torch.inf, 3.0]


def test_edges_lead_from_the_pool_to_all_present_rows():
    vectors = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([True] * 8 + [False])
    for size in (1, 3, 6):
        pool = present & (torch.arange(9) < size)
        whole = (vectors @ vectors.t()).fill_diagonal_(-torch.inf).masked_fill(~pool, -torch.inf)
        expected = {
            (source, target)
            for target in range(8)
            for source in whole[target].topk(3).indices.tolist()
            if whole[target, source] > -torch.inf
        }
        edges = knn_edges_to_pool(vectors, present, pool, 3)
        assert set(map(tuple, edges.t().tolist())) == expected
        assert edges.shape[1] == len(expected)
