import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.context import ContextFusion, ContextModulation, ResidualAdapter
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask

N, D, WIDTHS = 6, 4, (2, 3, 1)
STARTS = (0, 2, 5)
M, F = len(WIDTHS), sum(WIDTHS)


def build(order: int = 3, **options) -> ContextFusion:
    torch.manual_seed(0)
    fusion = ContextFusion(D, M, order, **{"widths": WIDTHS, "activation": torch.tanh, **options}).double()
    if fusion.factor is not None:  # as after some training
        fusion.factor.data = torch.tensor([0.5, -1.0, 2.0]).double()
    return fusion


def slow(fusion: ContextFusion, context: Tensor, mask: Tensor | None) -> Tensor:
    rows = []
    for n in range(N):
        there = [m for m in range(M) if mask is None or mask[n, m]]
        if not there:
            rows.append(torch.zeros(D).double())
            continue
        own = [slice(start, start + width) for start, width in zip(STARTS, WIDTHS, strict=True)]
        groups = [context[n, own[m]] if m in there else torch.zeros(WIDTHS[m]).double() for m in range(M)]
        moved = []
        for m in range(M):
            shift = fusion.others.bias[own[m]]
            for o in range(M):
                if o != m:
                    shift = shift + fusion.others.weight[own[m], own[o]] @ groups[o]
            moved.append(groups[m] + (fusion.factor[m] * torch.tanh(shift) if m in there else 0))
        c = torch.cat(moved)
        z = torch.tanh(fusion.first.weight @ c + fusion.first.bias)
        for factor, layer in zip(fusion.factors, fusion.layers, strict=True):
            z = torch.tanh(layer.weight @ (z * (factor.weight @ c)) + layer.bias)
        rows.append(z)
    return torch.stack(rows)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked) -> None:
    fusion, mask = build(), random_mask(N, M) if masked else None
    context = random(N, F).requires_grad_()
    assert_same(fusion(context, mask), slow(fusion, context, mask), fusion, context)


@pytest.mark.parametrize("residual", [False, True])
def test_a_context_in_parts_is_the_same_context(residual) -> None:
    fusion = build(residual=residual)
    of_user, of_item, of_pair = random(N, 1, 3, seed=1), random(5, 2, seed=2), random(N, 5, 1, seed=3)
    columns = torch.tensor([0, 3, 5]), torch.tensor([1, 4]), torch.tensor([2])
    whole = torch.empty(N, 5, F).double()
    for values, positions in zip((of_user, of_item, of_pair), columns, strict=True):
        whole[..., positions] = values.expand(N, 5, -1)
    found = fusion.of_parts(*zip((of_user, of_item, of_pair), columns, strict=True))
    assert_same(found, fusion(whole), fusion)


def test_groups_of_one_width_are_tokens() -> None:
    fusion = build(widths=None)
    flat = ContextFusion(D, M, 3, widths=[D] * M, activation=torch.tanh).double()
    flat.load_state_dict(fusion.state_dict())
    tokens, mask = random(2, N, M, D), random_mask(2, N, M)
    fused, weights = fusion(tokens, mask, return_weights=True)
    other, other_weights = flat(tokens.flatten(-2), mask, return_weights=True)
    assert torch.equal(fused, other)
    assert torch.equal(weights, other_weights)
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).double())
    assert_never_read(lambda x: fusion(x, mask), tokens, mask, fusion)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_linear_layers_without_biases_are_homogeneous_of_their_order(order) -> None:
    fusion = build(order, activation=lambda x: x)
    fusion.factor.data.zero_()
    for layer in (fusion.first, *fusion.layers):
        layer.bias.data.zero_()
    context = random(N, F)
    torch.testing.assert_close(fusion(1.5 * context), 1.5**order * fusion(context))


def test_sizes_are_those_of_the_context_alone() -> None:
    fusion, change = build(), ContextModulation(D).double()
    for rows in (1, 3, 50):
        assert change(random(rows, D), fusion(random(rows, F))).shape == (rows, D)
    assert {p.shape.numel() for p in fusion.parameters()} <= {F * F, F, M, D * F, D * D, D}
    assert {p.shape.numel() for p in change.parameters()} == {D * D, D}


def test_an_adapter_begins_as_nothing_and_learns() -> None:
    fusion, adapter, context = build(), ResidualAdapter(F, 3).double(), random(N, F)
    assert torch.equal(fusion(adapter(context)), fusion(context))
    fusion(adapter(context)).square().sum().backward()
    assert bool(adapter.outer.weight.grad.any())


def test_a_frozen_source_stays_as_it_is() -> None:
    fusion, adapter, context = build().requires_grad_(False), ResidualAdapter(F).double(), random(N, F)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        fusion(adapter(context)).square().sum().backward()
        optimizer.step()
    assert all(p.grad is None for p in fusion.parameters())
    assert all(torch.equal(value, before[name]) for name, value in fusion.state_dict().items())
    assert all(bool(p.grad.any()) for p in adapter.parameters())
    assert not torch.allclose(adapter(context), context)


def test_a_context_of_ones_changes_nothing_and_of_zeros_leaves_the_biases() -> None:
    torch.manual_seed(0)
    change, embedding = ContextModulation(D, 2).double(), random(N, D)
    expected = embedding
    for layer in change.layers:
        expected = torch.relu(layer.weight @ expected.T + layer.bias[:, None]).T
    torch.testing.assert_close(change(embedding, torch.ones(N, D)), expected)
    nothing = change(embedding, torch.zeros(N, D))
    torch.testing.assert_close(nothing, change.layers[1](torch.relu(change.layers[0].bias)).relu().expand(N, D))
    assert torch.equal(ContextModulation(D, 0)(embedding, torch.ones(N, D)), embedding)


def test_an_embedding_without_a_context_stays_as_it_is() -> None:
    embedding, context = random(2, D), random(2, D, seed=1)
    context[0] = torch.nan
    found = ContextModulation(D, 0)(embedding, context, torch.tensor([False, True]))
    assert torch.equal(found, torch.stack([embedding[0], embedding[1] * context[1]]))


def test_a_group_is_moved_by_the_others_only() -> None:
    fusion, context = build(), random(F)
    slopes = torch.autograd.functional.jacobian(fusion.shifted, context) - torch.eye(F)
    same = fusion.group[:, None] == fusion.group
    assert bool((slopes[same] == 0).all())
    assert bool((slopes[~same] != 0).all())
    fusion.factor.data[1] = 0.0
    moved = fusion.shifted(context)
    assert torch.equal(moved[2:5], context[2:5])
    assert not torch.equal(moved[:2], context[:2])


def test_the_factors_begin_at_zero_and_one_group_is_never_moved() -> None:
    assert torch.equal(ContextFusion(D, M).factor.detach(), torch.zeros(M))
    for alone in (ContextFusion(D, 1), ContextFusion(D, M, residual=False)):
        tokens = torch.randn(N, len(alone.group) // D, D)
        assert torch.equal(alone.shifted(tokens), tokens.flatten(1))


def test_shapes() -> None:
    fusion = build()
    assert fusion(random(N, F)).shape == (N, D)
    assert fusion(random(2, N, F)).shape == (2, N, D)
    assert ContextModulation(D)(torch.ones(N, 3, D), torch.ones(N, 1, D)).shape == (N, 3, D)


def test_a_case_by_hand() -> None:
    fusion = ContextFusion(1, 2, residual=False)
    fusion.first.weight.data, fusion.first.bias.data = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    fusion.factors[0].weight.data = torch.tensor([[3.0, -1.0]])
    fusion.layers[0].weight.data, fusion.layers[0].bias.data = torch.tensor([[2.0]]), torch.tensor([-1.0])
    # 1 + 2 + 0.5 = 3.5; times 3 - 1 = 2 is 7; twice that less 1 is 13. Of the first alone: 1.5, times 3, twice, less 1: 8
    tokens, mask = torch.ones(3, 2, 1), torch.tensor([[True, True], [True, False], [False, False]])
    assert fusion(tokens, mask).flatten().tolist() == [13.0, 8.0, 0.0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="order must be at least 1, but is 0"):
        ContextFusion(D, M, 0)
    with pytest.raises(ValueError, match="widths are of 2 groups, but num_tokens is 3"):
        ContextFusion(D, M, widths=(2, 3))
