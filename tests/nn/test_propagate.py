import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric import EdgeIndex

from gmmrec.nn import propagate
from gmmrec.nn.propagate import sampled_dot, structure_of, weighted_sum

NUM_SOURCES, NUM_TARGETS, NUM_EDGES, DIM = 7, 5, 12, 3


@pytest.fixture(params=["sparse kernels", "no kernels"], autouse=True)
def kernels(request, monkeypatch):
    """Run every test twice: with sparse kernels, and as on a torch build without MKL."""
    if request.param == "no kernels":
        monkeypatch.setattr(propagate, "_has_kernels", lambda tensor: False)


@pytest.fixture(params=["plain", "unsorted", "row", "col"])
def edge_index(request):
    """Edges in four forms; source 6 and target 4 have none, and one pair occurs twice."""
    plain = torch.tensor([[5, 5, 0, 2, 2, 4, 1, 3, 0, 0, 1, 4], [3, 3, 0, 1, 0, 2, 0, 1, 3, 2, 3, 0]])
    if request.param == "plain":
        return plain
    index = EdgeIndex(plain, sparse_size=(NUM_SOURCES, NUM_TARGETS))
    return index if request.param == "unsorted" else index.sort_by(request.param)[0]


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def ends(edge_index):
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def dense_sum(edge_index, x, weight):
    """Compute the sum with a dense matrix to which every edge adds its weight."""
    source, target = ends(edge_index)
    matrix = torch.zeros(NUM_TARGETS, NUM_SOURCES, dtype=x.dtype)
    return matrix.index_put((target, source), weight, accumulate=True) @ x


def dense_dot(edge_index, x, y):
    """Compute all inner products and select those of the edges."""
    source, target = ends(edge_index)
    return (x @ y.t())[source, target]


def test_weighted_sum_equals_the_dense_product(edge_index):
    x, weight = draw(NUM_SOURCES, DIM), draw(NUM_EDGES)
    result = weighted_sum(edge_index, x, weight, num_targets=NUM_TARGETS)
    expected = dense_sum(edge_index, x, weight)
    assert torch.allclose(result, expected, atol=1e-12)
    upstream = draw(NUM_TARGETS, DIM).detach()
    for actual, reference in zip(
        torch.autograd.grad(result, (x, weight), upstream), torch.autograd.grad(expected, (x, weight), upstream), strict=True
    ):
        assert torch.allclose(actual, reference, atol=1e-12)


def test_sampled_dot_equals_the_dense_product(edge_index):
    x, y = draw(NUM_SOURCES, DIM), draw(NUM_TARGETS, DIM)
    result, expected = sampled_dot(edge_index, x, y), dense_dot(edge_index, x, y)
    assert torch.allclose(result, expected, atol=1e-12)
    upstream = draw(NUM_EDGES).detach()
    for actual, reference in zip(
        torch.autograd.grad(result, (x, y), upstream), torch.autograd.grad(expected, (x, y), upstream), strict=True
    ):
        assert torch.allclose(actual, reference, atol=1e-12)


def test_first_and_second_derivatives(edge_index):
    x, y, weight = draw(NUM_SOURCES, DIM), draw(NUM_TARGETS, DIM), draw(NUM_EDGES)
    for check in (gradcheck, gradgradcheck):
        assert check(lambda x, w: weighted_sum(edge_index, x, w, num_targets=NUM_TARGETS), (x, weight))
        assert check(lambda x, y: sampled_dot(edge_index, x, y), (x, y))


def test_default_weights_are_ones(edge_index):
    x = draw(NUM_SOURCES, DIM)
    ones = torch.ones(NUM_EDGES, dtype=x.dtype)
    assert torch.allclose(weighted_sum(edge_index, x, num_targets=NUM_TARGETS), dense_sum(edge_index, x, ones), atol=1e-12)


def test_nodes_without_edges_get_zeros_and_no_gradient(edge_index):
    x, weight = draw(NUM_SOURCES, DIM), draw(NUM_EDGES)
    result = weighted_sum(edge_index, x, weight, num_targets=NUM_TARGETS)
    result.sum().backward()
    assert result[4].tolist() == [0.0] * DIM
    assert x.grad[6].tolist() == [0.0] * DIM


@pytest.mark.parametrize("indexed", [False, True])
def test_no_edges(indexed):
    nothing = torch.empty(2, 0, dtype=torch.long)
    if indexed:
        nothing = EdgeIndex(nothing, sparse_size=(NUM_SOURCES, NUM_TARGETS), sort_order="col")
    x, y = draw(NUM_SOURCES, DIM), draw(NUM_TARGETS, DIM)
    result = weighted_sum(nothing, x, num_targets=NUM_TARGETS)
    assert torch.equal(result, torch.zeros(NUM_TARGETS, DIM, dtype=x.dtype))
    dots = sampled_dot(nothing, x, y)
    assert dots.shape == (0,)
    (result.sum() + dots.sum()).backward()
    assert not x.grad.any()


def test_number_of_targets_defaults_to_that_of_the_edge_index(edge_index):
    if not isinstance(edge_index, EdgeIndex):
        pytest.skip("a plain tensor does not have it")
    assert weighted_sum(edge_index, draw(NUM_SOURCES, DIM)).shape == (NUM_TARGETS, DIM)


def test_edge_index_is_grouped_once(edge_index):
    first = structure_of(edge_index, NUM_SOURCES, NUM_TARGETS)
    second = structure_of(edge_index, NUM_SOURCES, NUM_TARGETS)
    assert (first is second) == isinstance(edge_index, EdgeIndex)


def test_other_sizes_are_regrouped(edge_index):
    structure_of(edge_index, NUM_SOURCES, NUM_TARGETS)
    assert weighted_sum(edge_index, draw(NUM_SOURCES, DIM), num_targets=9).shape == (9, DIM)


@pytest.mark.parametrize(("sources", "targets"), [(5, 5), (7, 3)])
def test_out_of_range_nodes_are_rejected(edge_index, sources, targets):
    with pytest.raises(ValueError, match=r"edge_index names node \d, but there are only"):
        weighted_sum(edge_index, draw(sources, DIM), num_targets=targets)
