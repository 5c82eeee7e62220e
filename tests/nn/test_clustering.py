import torch
from torch import Tensor

from gmmrec.nn.clustering import PrototypeAssignment, balance_loss, cluster_degrees, cut_loss, sharpening_loss
from gmmrec.nn.relations import Relation

N, K = 9, 3


def graph(symmetric: bool = True) -> tuple[Relation, Tensor]:
    """Return weighted edges and the dense matrix ``[target, source]``."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(N, N, generator=generator) * (torch.rand(N, N, generator=generator) < 0.4)
    dense = (dense + dense.T if symmetric else dense).double()
    target, source = dense.nonzero().T
    return Relation(torch.stack([source, target]), dense[target, source]), dense


def soft(num_nodes: int = N) -> Tensor:
    return torch.randn(num_nodes, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).softmax(1)


def test_rows_of_an_assignment_are_probabilities() -> None:
    torch.manual_seed(0)
    q = PrototypeAssignment(4, K)(torch.randn(50, 4))
    torch.testing.assert_close(q.sum(1), torch.ones(50))
    assert bool(((q > 0) & (q < 1)).all())


def test_assignment_is_a_softmax_over_prototypes() -> None:
    torch.manual_seed(0)
    assign, x = PrototypeAssignment(4, K, temperature=0.3), torch.randn(5, 4)
    torch.testing.assert_close(assign(x), torch.softmax(x @ assign.prototypes.T / 0.3, 1))


def test_hard_assignment_is_one_hot_with_the_gradients_of_the_soft_one() -> None:
    torch.manual_seed(0)
    assign, x, direction = PrototypeAssignment(4, K), torch.randn(5, 4), torch.randn(5, K)
    soft_gradient = torch.autograd.grad((assign(x) * direction).sum(), assign.prototypes)[0]
    best = assign(x).argmax(1)
    assign.hard = True
    q = assign(x)
    assert torch.equal(q, torch.eye(K)[best])
    torch.testing.assert_close(torch.autograd.grad((q * direction).sum(), assign.prototypes)[0], soft_gradient)


def test_degrees_inside_clusters_are_row_sums_of_the_weighted_matrices() -> None:
    edges, dense = graph(symmetric=False)
    q = soft()
    expected = torch.stack([(dense * q[:, k, None] * q[:, k]).sum(1) for k in range(K)], 1)
    torch.testing.assert_close(cluster_degrees(edges, q, q), expected)


def test_cut_is_the_ratio_of_traces() -> None:
    for symmetric in (True, False):
        edges, dense = graph(symmetric)
        q = soft()
        expected = -torch.trace(q.T @ dense @ q) / torch.trace(q.T @ torch.diag(dense.sum(1)) @ q)
        torch.testing.assert_close(cut_loss((edges, q, q)), expected)


def test_cut_of_a_bipartite_graph_equals_that_of_its_full_matrix() -> None:
    block = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, q = torch.zeros(N, N, dtype=torch.float64), soft()
    whole[:4, 4:], whole[4:, :4] = block, block.T
    users, items = block.nonzero().T
    to_item, to_user = (
        Relation(torch.stack([users, items]), block.flatten()),
        Relation(torch.stack([items, users]), block.flatten()),
    )
    expected = -torch.trace(q.T @ whole @ q) / torch.trace(q.T @ torch.diag(whole.sum(1)) @ q)
    torch.testing.assert_close(cut_loss((to_user, q[4:], q[:4]), (to_item, q[:4], q[4:])), expected)


def test_single_cluster_has_a_cut_of_minus_one_and_is_balanced() -> None:
    edges, _ = graph()
    one = torch.ones(N, 1, dtype=torch.float64)
    torch.testing.assert_close(cut_loss((edges, one, one)), torch.tensor(-1.0, dtype=torch.float64))
    assert float(balance_loss(one)) == 0.0


def test_balance_of_a_single_cluster_has_a_finite_gradient() -> None:
    one = torch.ones(N, 1, requires_grad=True)
    balance_loss(one).backward()
    assert one.grad is not None
    assert bool(torch.isfinite(one.grad).all())


def test_cut_of_a_symmetric_graph_lies_between_minus_one_and_zero() -> None:
    edges, _ = graph()
    for seed in range(20):
        q = (4 * torch.randn(N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).softmax(1)
        assert -1 <= float(cut_loss((edges, q, q))) <= 0


def test_graph_without_edges_has_a_cut_of_zero() -> None:
    assert float(cut_loss((Relation(torch.empty(2, 0, dtype=torch.long)), soft(), soft()))) == 0.0


def test_balance_is_zero_for_equal_clusters_and_positive_for_collapsed_ones() -> None:
    equal = torch.eye(K)[torch.arange(N) % K]
    assert abs(float(balance_loss(equal))) < 1e-6
    everything = torch.eye(K)[torch.zeros(N, dtype=torch.long)]
    expected = ((1 - K**-0.5) ** 2 + (K - 1) / K) ** 0.5
    assert abs(float(balance_loss(everything)) - expected) < 1e-6
    assert expected < 2**0.5


def test_sharpening_is_the_divergence_to_a_sharper_target() -> None:
    q = soft()
    target = q**2 / q.sum(0)
    target = target / target.sum(1, keepdim=True)
    torch.testing.assert_close(sharpening_loss(q), (target * (target / q).log()).sum(1).mean())
    assert float(sharpening_loss(torch.eye(K)[torch.arange(N) % K])) == 0.0


def test_sharpening_target_has_no_gradient() -> None:
    q = soft().requires_grad_()
    target = (q**2 / q.sum(0)).detach()
    target = target / target.sum(1, keepdim=True)
    gradient = torch.autograd.grad(sharpening_loss(q), q)[0]
    torch.testing.assert_close(gradient, -target / q.detach() / N)
