"""Multi-order attention equals its equations in loops, and the sigmoid bounds its weights."""

import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.sequence.multi_order import MultiOrderAttention, ResidualTower, SquashedAttention

N, L, D, K = 5, 6, 4, 2


def inputs(size: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return size * torch.randn(N, L, D, generator=generator), size * torch.randn(N, D, generator=generator)


def layer(**settings) -> MultiOrderAttention:
    torch.manual_seed(0)
    return MultiOrderAttention(D, K, **settings)


def slow_weights(attention: SquashedAttention, x: Tensor, u: Tensor | None) -> Tensor:
    """Compute weights ``[n]`` in float64 for the present tokens ``[n, D]``."""
    w, b = attention.token.weight.double(), attention.token.bias.double()
    logits = []
    for row in x:
        inner = w @ row + b + (0 if u is None else attention.guide.weight.double() @ u)
        logits.append(1 / (1 + math.exp(-float(attention.logit.weight[0].double() @ inner.tanh()))))
    total = sum(math.exp(logit) for logit in logits)
    return torch.tensor([math.exp(logit) / total for logit in logits], dtype=torch.float64)


def slow_tower(tower: ResidualTower, x: Tensor) -> list[Tensor]:
    depths = [x]
    for linear in tower.layers:
        x = torch.clamp(linear.weight.double() @ x + linear.bias.double() + x, min=0)
        depths.append(x)
    return depths


def slow(module: MultiOrderAttention, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return h ``[D]``, token weights ``[K + 1, n]`` and order weights ``[K + 1]`` for tokens ``[n, D]`` and an anchor ``[D]``."""
    x, u = x.double(), u.double()
    depths = [slow_tower(module.tokens, row) for row in x]
    anchors = slow_tower(module.anchor, u)
    pooled, weights = [], []
    for k in range(K + 1):
        rows = torch.stack([depth[k] for depth in depths])
        weights.append(slow_weights(module.inside[k], rows, anchors[k]))
        pooled.append(sum(a * row for a, row in zip(weights[-1], rows, strict=True)))
    if module.shortcut is not None:
        pooled[0] = pooled[0] + (x[-1] if module.shortcut == "last" else u)
    order = slow_weights(module.between, torch.stack(pooled), None)
    return sum(b * z for b, z in zip(order, pooled, strict=True)), torch.stack(weights), order


@torch.no_grad()
@pytest.mark.parametrize("shortcut", ["last", "anchor", None])
@pytest.mark.parametrize("init_std", [None, 0.5])
def test_output_equals_the_formula_in_loops(shortcut, init_std):
    module, (tokens, anchor) = layer(shortcut=shortcut, init_std=init_std), inputs()
    mask = torch.ones(N, L, dtype=torch.bool)
    mask[1, :4] = False
    mask[2, 0] = False
    fused, weights = module(tokens, mask, anchor, return_weights=True)
    for n in range(N):
        h, token, order = slow(module, tokens[n][mask[n]], anchor[n])
        torch.testing.assert_close(fused[n].double(), h, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights.token[n][:, mask[n]].double(), token, rtol=0, atol=1e-6)
        torch.testing.assert_close(weights.order[n].double(), order, rtol=0, atol=1e-6)


@torch.no_grad()
def test_shapes_and_sums():
    tokens, anchor = inputs()
    fused, weights = layer()(tokens, None, anchor, return_weights=True)
    assert fused.shape == (N, D)
    assert weights.token.shape == (N, K + 1, L)
    assert weights.order.shape == (N, K + 1)
    torch.testing.assert_close(weights.token.sum(-1), torch.ones(N, K + 1))
    torch.testing.assert_close(weights.order.sum(-1), torch.ones(N))
    torch.testing.assert_close(weights.shares.sum(-1), torch.ones(N))


@torch.no_grad()
def test_the_sigmoid_bounds_every_weight():
    tokens, anchor = inputs(1000)
    module = layer(init_std=100.0)
    for attention in (*module.inside, module.between):
        attention.logit.weight.mul_(100)
    _, weights = module(tokens, None, anchor, return_weights=True)
    for found, count in ((weights.token, L), (weights.order, K + 1)):
        least, most = 1 / (1 + (count - 1) * math.e), math.e / (math.e + count - 1)
        assert bool((found > least - 1e-6).all())
        assert bool((found < most + 1e-6).all())
        assert bool((found.amax(-1) / found.amin(-1) <= math.e + 1e-5).all())
    plain = layer(squash=False, init_std=100.0)
    _, weights = plain(tokens, None, anchor, return_weights=True)
    assert float(weights.token.max()) > 0.5  # ordinary attention has no such bound


@torch.no_grad()
def test_zero_weights_yield_the_mean_plus_the_newest_token():
    tokens, anchor = inputs()
    torch.manual_seed(0)
    module = MultiOrderAttention(D, 0)
    for name, parameter in module.named_parameters():
        if name.endswith("weight"):
            parameter.zero_()
    fused, weights = module(tokens, None, anchor, return_weights=True)
    torch.testing.assert_close(weights.token, torch.full((N, 1, L), 1 / L))
    torch.testing.assert_close(fused, tokens.mean(1) + tokens[:, -1])


@torch.no_grad()
def test_tower_with_zero_parameters_is_a_relu():
    x = inputs()[0]
    tower = ResidualTower(D, 2)
    for parameter in tower.parameters():
        parameter.zero_()
    assert all(torch.equal(found, x.relu()) for found in list(tower.depths(x))[1:])
    assert torch.equal(tower(x), x.relu())
    assert torch.equal(ResidualTower(D, 0)(x), x)


@torch.no_grad()
def test_missing_tokens_are_never_read_and_empty_rows_yield_zeros():
    tokens, anchor = inputs()
    mask = torch.ones(N, L, dtype=torch.bool)
    mask[0], mask[1, :3] = False, False
    for settings in ({}, {"attention": "mean"}, {"shortcut": "anchor"}):
        module = layer(**settings)
        fused, weights = module(tokens, mask, anchor, return_weights=True)
        assert torch.equal(module(tokens.masked_fill(~mask.unsqueeze(-1), torch.nan), mask, anchor), fused)
        assert bool((fused[0] == 0).all())
        assert bool((weights.token.transpose(1, 2)[~mask] == 0).all())
        torch.testing.assert_close(module(tokens[1:2, 3:], None, anchor[1:2]), fused[1:2])


@torch.no_grad()
def test_mean_has_no_attention_and_uniform_weights():
    module, (tokens, anchor) = layer(attention="mean"), inputs()
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"tokens"}
    depths = list(module.tokens.depths(tokens))
    expected = (torch.stack([depth.mean(1) for depth in depths]).sum(0) + tokens[:, -1]) / (K + 1)
    torch.testing.assert_close(module(tokens, None, anchor), expected)


@torch.no_grad()
def test_anchor_defaults_to_the_mean():
    module, (tokens, _) = layer(), inputs()
    torch.testing.assert_close(module(tokens), module(tokens, None, tokens.mean(1)))
    assert not torch.allclose(module(tokens), module(tokens, None, -tokens.mean(1)))


@torch.no_grad()
def test_dropout_acts_on_matrix_inputs_and_not_on_residuals():
    tower = ResidualTower(D, 3, dropout=1.0)
    for linear in tower.layers:
        linear.bias.zero_()
    x = inputs()[0].abs()
    assert torch.equal(tower.train()(x), x)
    assert not torch.equal(tower.eval()(x), x)


@torch.no_grad()
def test_initial_values_follow_the_released_code():
    torch.manual_seed(0)
    module = MultiOrderAttention(64, 2, init_std=0.01)
    for name, parameter in module.named_parameters():
        expected = 1.0 if name.endswith(("bias", "logit.weight")) else 0.01
        assert float(parameter.std()) == pytest.approx(expected, rel=0.4)


def test_invalid_settings_are_rejected():
    with pytest.raises(ValueError, match="shortcut must be 'last', 'anchor' or None"):
        MultiOrderAttention(4, shortcut="first")
