import pytest
import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gmmrec.nn.clustering import cluster_degrees
from gmmrec.nn.conv.cluster import ClusterConv, cluster_weights
from gmmrec.nn.relations import Relation

D, K = 5, 3


def random_matrix(num_targets: int, num_sources: int, seed: int = 0) -> Tensor:
    """Draw a sparse matrix ``[target, source]``."""
    generator = torch.Generator().manual_seed(seed)
    size = (num_targets, num_sources)
    return torch.rand(size, generator=generator).double() * (torch.rand(size, generator=generator) < 0.5)


def edges_of(matrix: Tensor) -> tuple[Tensor, Tensor]:
    target, source = matrix.nonzero().T
    order = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(7))
    return torch.stack([source, target])[:, order], matrix[target, source][order]


def soft(num_nodes: int, seed: int = 1, num_clusters: int = K) -> Tensor:
    return torch.randn(num_nodes, num_clusters, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(1)


def dense_conv(x: Tensor, matrix: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Apply the K convolutions one by one; degrees of sources are column sums."""
    out = torch.zeros(matrix.shape[0], x.shape[1], dtype=x.dtype)
    for k in range(source.shape[1]):
        inside = matrix * target[:, k, None] * source[None, :, k]
        rows, columns = inside.sum(1) + 1e-7, inside.sum(0) + 1e-7
        out += target[:, k, None] * ((inside / rows.sqrt()[:, None] / columns.sqrt()) @ x)
    return out


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_one_graph_equals_the_dense_convolutions(fused: bool, plain: bool) -> None:
    matrix = random_matrix(7, 7)
    matrix = matrix + matrix.T
    edge_index, weight = edges_of(matrix)
    x, q = torch.randn(7, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), soft(7)
    index = edge_index if plain else EdgeIndex(edge_index, sparse_size=(7, 7))
    torch.testing.assert_close(ClusterConv(fused=fused)(x, index, q, weight), dense_conv(x, matrix, q, q))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_two_node_types_equal_the_dense_convolutions(fused: bool, weighted: bool) -> None:
    matrix = random_matrix(4, 6) if weighted else (random_matrix(4, 6) > 0).double()
    edge_index, weight = edges_of(matrix)
    x = torch.randn(6, D, dtype=torch.float64), torch.zeros(4, D, dtype=torch.float64)
    source, target = soft(6), soft(4, seed=2)
    edge_weight = weight if weighted else None
    expected = dense_conv(x[0], matrix, source, target)
    conv = ClusterConv(fused=fused)
    torch.testing.assert_close(conv(x, edge_index, (source, target), edge_weight), expected)
    degree = (
        cluster_degrees(Relation(edge_index.flip(0), edge_weight), target, source),
        cluster_degrees(Relation(edge_index, edge_weight), source, target),
    )
    torch.testing.assert_close(conv(x, edge_index, (source, target), edge_weight, degree), expected)


def test_gradients_equal_those_of_the_dense_convolutions() -> None:
    matrix = (random_matrix(6, 6) > 0).double()
    matrix = ((matrix + matrix.T) > 0).double()
    edge_index, _ = edges_of(matrix)
    x, logits = (
        torch.randn(6, D, dtype=torch.float64, requires_grad=True),
        torch.randn(6, K, dtype=torch.float64, requires_grad=True),
    )
    direction = torch.randn(6, D, dtype=torch.float64)
    actual = torch.autograd.grad((ClusterConv()(x, edge_index, logits.softmax(1)) * direction).sum(), (x, logits))
    q = logits.softmax(1)
    expected = torch.autograd.grad((dense_conv(x, matrix, q, q) * direction).sum(), (x, logits))
    torch.testing.assert_close(actual, expected)


def test_one_cluster_is_the_normalised_convolution() -> None:
    matrix = ((random_matrix(7, 7) + random_matrix(7, 7).T) > 0).float()
    edge_index, _ = edges_of(matrix)
    x, degree = torch.randn(7, D), matrix.sum(1)
    expected = (matrix / (degree[:, None] * degree).sqrt().clamp(min=1e-9)) @ x
    torch.testing.assert_close(ClusterConv()(x, edge_index, torch.ones(7, 1)), expected, atol=1e-6, rtol=1e-6)


def test_uniform_assignment_equals_one_cluster() -> None:
    edge_index, weight = edges_of(random_matrix(7, 7))
    x = torch.randn(7, D, dtype=torch.float64)
    even, one = torch.full((7, 4), 0.25, dtype=torch.float64), torch.ones(7, 1, dtype=torch.float64)
    conv = ClusterConv()
    torch.testing.assert_close(conv(x, edge_index, even, weight), conv(x, edge_index, one, weight), atol=1e-5, rtol=1e-5)


def test_hard_clusters_without_edges_between_them_equal_one_cluster() -> None:
    matrix = torch.block_diag(torch.ones(3, 3), torch.ones(4, 4)).fill_diagonal_(0.0)
    edge_index, _ = edges_of(matrix)
    x, q = torch.randn(7, D), torch.eye(2)[[0, 0, 0, 1, 1, 1, 1]]
    torch.testing.assert_close(ClusterConv()(x, edge_index, q), ClusterConv()(x, edge_index, torch.ones(7, 1)))


def test_edges_between_hard_clusters_have_weight_zero() -> None:
    edge_index, _ = edges_of(torch.ones(5, 5))
    cluster = torch.tensor([0, 0, 1, 1, 0])
    weight = cluster_weights(Relation(edge_index), torch.eye(2)[cluster])
    same = cluster[edge_index[0]] == cluster[edge_index[1]]
    assert not bool(weight[~same].any())
    torch.testing.assert_close(weight[same], 1 / torch.tensor([3.0, 2.0])[cluster[edge_index[1][same]]])


def test_hard_clusters_without_neighbours_have_bounded_gradients() -> None:
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    q = torch.eye(3)[[0, 0, 1, 2]].requires_grad_()
    ClusterConv()(torch.ones(4, D), edge_index, q).sum().backward()
    assert q.grad is not None
    assert float(q.grad.abs().max()) < 20


def test_order_of_clusters_does_not_matter() -> None:
    edge_index, weight = edges_of(random_matrix(7, 7))
    q, order = soft(7), torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        cluster_weights(Relation(edge_index, weight), q), cluster_weights(Relation(edge_index, weight), q[:, order])
    )


def test_isolated_node_yields_zeros() -> None:
    out = ClusterConv()(torch.ones(3, D), torch.tensor([[0, 1], [1, 0]]), soft(3).float())
    assert not bool(out[2].any())
    assert bool(out[0].any())
