"""Gated attention against its dense equations, and its invariants."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch_geometric import EdgeIndex
from torch_geometric.nn import Sequential

from gmmrec.nn.conv.gated_attention import GatedAttentionConv, inner_product_gate

NUM_SOURCES, NUM_TARGETS = 6, 5
EDGES = torch.tensor([[5, 0, 1, 2, 2, 4, 1, 3, 0], [3, 3, 0, 1, 0, 2, 2, 1, 0]])  # target 4 is isolated
DEGREE = torch.bincount(EDGES[0], minlength=NUM_SOURCES).double()


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs():
    return draw(NUM_SOURCES, 4).requires_grad_(), draw(NUM_TARGETS, 4, seed=1).requires_grad_()


def layer(*, seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GatedAttentionConv(4, 3, **settings).double()


def dense(x, theta, bias, edges, degree, gated=True):
    """Compute outputs and the attention matrix by the equations on dense matrices."""
    y_source, y_target = x[0] @ theta, x[1] @ theta
    s = y_target @ torch.where(y_source > 0, y_source, 0.01 * y_source).t()  # [N_target, N_source]
    g = 1 / (1 + torch.exp(-s / torch.sqrt(degree))) if gated else torch.ones_like(s)
    neighbours = torch.zeros_like(s, dtype=torch.bool)
    neighbours[edges[1], edges[0]] = True
    power = torch.where(neighbours, torch.exp(s * g), torch.zeros_like(s))
    a = power / power.sum(1, keepdim=True).clamp(min=1e-300)
    h = a @ y_source + bias
    return h / torch.sqrt((h * h).sum(1, keepdim=True)), a


def forms(edges):
    index = EdgeIndex(edges, sparse_size=(NUM_SOURCES, NUM_TARGETS))
    return {"plain": edges, "unsorted": index, "row": index.sort_by("row")[0], "col": index.sort_by("col")[0]}


def ends(edge_index):
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", ["plain", "unsorted", "row", "col"])
@pytest.mark.parametrize("gate", ["inner_product", "none"])
def test_equals_the_dense_equations(fused, form, gate):
    conv, x, edge_index = layer(fused=fused, gate=gate), inputs(), forms(EDGES)[form]
    out, (returned, attention) = conv(x, edge_index, return_attention_weights=True)
    expected, expected_attention = dense(x, conv.weight, conv.bias, EDGES, DEGREE, gate == "inner_product")
    assert returned is edge_index
    assert torch.allclose(out, expected, atol=1e-10)
    source, target = ends(edge_index)
    assert torch.allclose(attention, expected_attention[target, source], atol=1e-10)
    upstream, leaves = draw(NUM_TARGETS, 3, seed=2), (*x, conv.weight, conv.bias)
    for actual, reference in zip(
        torch.autograd.grad(out, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        assert torch.allclose(actual, reference, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fused_and_reference_agree_on_a_larger_graph(dtype, tolerance):
    generator = torch.Generator().manual_seed(3)
    edges = torch.randint(200, (2, 1500), generator=generator)
    edges = edges[:, edges[0] != edges[1]]
    x = (draw(200, 4) * 2).to(dtype)
    results = []
    for fused in (True, False):
        conv = layer(fused=fused).to(dtype)
        out, (_, attention) = conv(x, edges, return_attention_weights=True)
        (out * draw(200, 3, seed=4).to(dtype)).mean().backward()
        results.append((out, attention, conv.weight.grad, conv.bias.grad))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("fused", [True, False])
def test_gradcheck(fused):
    conv, x = layer(fused=fused), inputs()
    assert gradcheck(lambda source, target, *_: conv((source, target), EDGES), (*x, conv.weight, conv.bias))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_positive_and_sums_to_one(fused):
    _, (_, attention) = layer(fused=fused)(inputs(), EDGES, return_attention_weights=True)
    assert float(attention.detach().min()) > 0
    total = torch.zeros(NUM_TARGETS, dtype=torch.float64).index_add(0, EDGES[1], attention)
    assert torch.allclose(total, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64), atol=1e-12)


def test_gates_lie_between_0_and_1_and_are_one_half_for_zero_scores():
    gates = []

    def recording_gate(score, degree):
        gates.append(inner_product_gate(score, degree))
        return gates[-1]

    conv = layer(gate=recording_gate)
    conv(inputs(), EDGES)
    assert float(gates[0].detach().min()) > 0
    assert float(gates[0].detach().max()) < 1
    zeros = torch.zeros(NUM_SOURCES, 4, dtype=torch.float64), torch.zeros(NUM_TARGETS, 4, dtype=torch.float64)
    _, (_, attention) = conv(zeros, EDGES, return_attention_weights=True)
    assert gates[1].tolist() == [0.5] * EDGES.shape[1]
    in_degree = torch.bincount(EDGES[1], minlength=NUM_TARGETS)
    assert torch.equal(attention, 1 / in_degree[EDGES[1]].double())


def test_gate_uses_the_degree_of_the_source():
    recorded = []

    def recording_gate(score, degree):
        recorded.append((torch.logit(inner_product_gate(score, degree)), degree))
        return inner_product_gate(score, degree)

    conv, y = layer(gate=recording_gate), (draw(NUM_SOURCES, 3), draw(NUM_TARGETS, 3, seed=1))
    conv.attend(y, EDGES)
    source_2 = EDGES[0] == 2
    more_of_source_2 = torch.cat([EDGES, torch.tensor([[2, 2], [3, 4]])], 1)  # its degree rises from 2 to 4
    conv.attend(y, more_of_source_2)
    more_of_target_3 = torch.cat([EDGES, torch.tensor([[3], [3]])], 1)
    conv.attend(y, more_of_target_3)
    (before, degree), (doubled, _), (other, _) = ((logit[: EDGES.shape[1]], degree[: EDGES.shape[1]]) for logit, degree in recorded)
    assert torch.equal(degree, DEGREE[EDGES[0]])
    assert torch.allclose(doubled[source_2], before[source_2] / 2**0.5, atol=1e-10)
    assert torch.allclose(doubled[~source_2], before[~source_2], atol=1e-10)
    into_3 = (EDGES[1] == 3) & (EDGES[0] != 3)
    assert torch.equal(other[into_3], before[into_3])


@pytest.mark.parametrize("fused", [True, False])
def test_outputs_have_unit_norm_and_isolated_nodes_the_direction_of_the_bias(fused):
    conv = layer(fused=fused)
    out = conv(inputs(), EDGES)
    assert torch.allclose(out.norm(dim=1), torch.ones(NUM_TARGETS, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(out[4], F.normalize(conv.bias, dim=0), atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_without_bias_isolated_nodes_are_zero_and_have_finite_gradients(fused):
    conv, x = layer(fused=fused, bias=False), inputs()
    out = conv(x, EDGES)
    assert out[4].tolist() == [0.0] * 3
    out.square().sum().backward()
    assert torch.isfinite(x[1].grad).all()
    assert "bias" not in dict(conv.named_parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_given_degrees_are_used(fused):
    conv, x = layer(fused=fused), inputs()
    degree = torch.tensor([9, 8, 7, 6, 5, 4])
    assert torch.allclose(conv(x, EDGES, degree), dense(x, conv.weight, conv.bias, EDGES, degree.double())[0], atol=1e-10)


@pytest.mark.parametrize("fused", [True, False])
def test_large_scores_do_not_overflow(fused):
    conv = layer(fused=fused, gate="none")
    out = conv(tuple(1e3 * x.detach() for x in inputs()), EDGES)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("fused", [True, False])
def test_no_edges(fused):
    conv = layer(fused=fused)
    out = conv(inputs(), EDGES[:, :0])
    assert torch.allclose(out, F.normalize(conv.bias, dim=0).expand_as(out), atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_single_node_type_is_source_and_target(fused):
    conv, x = layer(fused=fused), draw(6, 4)
    assert torch.allclose(conv(x, EDGES), dense((x, x), conv.weight, conv.bias, EDGES, DEGREE)[0], atol=1e-10)


def test_transform_and_attend_equal_forward():
    conv, x = layer(), inputs()
    halves = conv.attend((conv.transform(x[0]), conv.transform(x[1])), EDGES)
    assert torch.equal(halves, conv(x, EDGES))


def test_works_in_pyg_sequential():
    model = Sequential("x, edge_index", [(layer(), "x, edge_index -> x"), torch.nn.ReLU()])
    assert model(draw(6, 4), EDGES).shape == (6, 3)


def test_initial_values():
    conv = GatedAttentionConv(400, 300)
    assert float(conv.bias.detach().abs().max()) <= 1 / 400**0.5
    assert float(conv.weight.detach().std()) == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert repr(conv) == "GatedAttentionConv(400, 300)"
