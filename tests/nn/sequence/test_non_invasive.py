"""The properties of NOVA's layer that follow from the paper."""

import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.sequence.non_invasive import NonInvasiveLayer, NonInvasiveTransformer
from gmmrec.nn.transformer import TransformerLayer
from tests.nn.fusion.checks import assert_same, layer_norm, random, softmax

B, T, M, D, H = 3, 4, 2, 6, 2
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]).bool()
VISIBLE = MASK.unsqueeze(1)
PRESENT = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]]).bool().expand(B, T, M)
IDS, SIDES, OTHERS = random(B, T, D), random(B, T, M, D, seed=1), random(B, T, M, D, seed=2)
FUSORS = [("add", "softmax"), ("concat", "softmax"), ("gate", "softmax"), ("gate", "sigmoid")]


def build(fusor: str = "gate", gate: str = "softmax", *, num_sides: int = M, **settings) -> NonInvasiveLayer:
    torch.manual_seed(0)
    return NonInvasiveLayer(D, H, num_sides, fusor=fusor, gate=gate, hidden=8, **settings).double().eval()


def slow_fused(layer: NonInvasiveLayer, fusor: str, gate: str, vector: Tensor, sides: list[Tensor]) -> Tensor:
    """Fuse one position; ``sides`` are those present."""
    features = [vector, *sides]
    if fusor == "add":
        return sum(features)
    logits = [layer.fuse.fuse.logits[0].weight[0] @ f for f in features]
    shares = softmax(logits) if gate == "softmax" else [1 / (1 + (-logit).exp()) for logit in logits]
    return sum(share * f for share, f in zip(shares, features, strict=True))


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_output_equals_the_formula_in_loops(fusor, gate) -> None:
    layer, ids, sides = build(fusor, gate), IDS.clone().requires_grad_(), SIDES.clone().requires_grad_()
    output = layer(ids, sides, VISIBLE, present=PRESENT)
    attention, ffn, size = layer.layer.attention, layer.layer.ffn, D // H
    expected = []
    for b in range(B):
        positions = [t for t in range(T) if MASK[b, t]]
        if fusor == "concat":
            project = layer.fuse.fuse.project
            parts = {t: torch.cat([ids[b, t], *(sides[b, t, m] * PRESENT[b, t, m] for m in range(M))]) for t in positions}
            fused = {t: project.weight @ part + project.bias for t, part in parts.items()}
        else:
            present = {t: [sides[b, t, m] for m in range(M) if PRESENT[b, t, m]] for t in positions}
            fused = {t: slow_fused(layer, fusor, gate, ids[b, t], present[t]) for t in positions}
        for t in positions:
            heads = []
            for h in range(H):
                part = slice(h * size, (h + 1) * size)
                logits = [attention.query(fused[t])[part] @ attention.key(fused[s])[part] / math.sqrt(size) for s in positions]
                shares = softmax(logits)
                heads.append(sum(share * attention.value(ids[b, s])[part] for share, s in zip(shares, positions, strict=True)))
            mixed = layer_norm(ids[b, t] + attention.output(torch.cat(heads)), layer.layer.norm)
            expected.append(layer_norm(mixed + ffn(mixed), layer.layer.ffn_norm))
    assert_same(output[MASK], torch.stack(expected), layer, ids, sides)


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_values_are_free_of_side_information(fusor, gate) -> None:
    layer = build(fusor, gate)
    values = []
    layer.layer.attention.value.register_forward_hook(lambda module, inputs, output: values.append(output))
    changed = not torch.allclose(layer(IDS, SIDES, VISIBLE), layer(IDS, OTHERS, VISIBLE))
    assert changed
    assert torch.equal(*values)
    assert torch.equal(layer(IDS[:, :1], SIDES[:, :1]), layer(IDS[:, :1], OTHERS[:, :1]))  # a single token attends only to itself


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_zero_queries_make_attention_uniform_and_side_information_irrelevant(fusor, gate) -> None:
    layer = build(fusor, gate)
    with torch.no_grad():
        layer.layer.attention.query.weight.zero_()
        layer.layer.attention.query.bias.zero_()
    uniform = (MASK / MASK.sum(1, keepdim=True)).double()
    torch.testing.assert_close(layer.weights(IDS, SIDES, VISIBLE), uniform[:, None, None].expand(B, H, T, T))
    assert torch.equal(layer(IDS, SIDES, VISIBLE), layer(IDS, OTHERS, VISIBLE))


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_side_information_acts_through_attention_only(fusor, gate) -> None:
    layer, sides = build(fusor, gate), SIDES.clone().requires_grad_()
    factor = random(B, H, T, T, seed=5)
    by_weights = torch.autograd.grad((layer.weights(IDS, sides, VISIBLE) * factor).sum(), sides)[0]
    assert bool(by_weights[MASK].any(-1).any(-1).all())
    assert bool(torch.autograd.grad(layer(IDS, sides, VISIBLE).square().sum(), sides)[0].any())
    attention, frozen = layer.layer.attention, layer.weights(IDS, SIDES, VISIBLE).detach()
    values = attention.value(IDS).unflatten(-1, (H, -1)).transpose(1, 2)
    messages = attention.output((frozen @ values).transpose(1, 2).flatten(2))
    mixed = layer.layer.norm(IDS + messages)
    torch.testing.assert_close(layer(IDS, SIDES, VISIBLE), layer.layer.ffn_norm(mixed + layer.layer.ffn(mixed)))


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_attention_rows_sum_to_one_and_skip_masked_tokens(fusor, gate) -> None:
    layer = build(fusor, gate)
    assert layer(IDS, SIDES, VISIBLE).shape == IDS.shape
    weights = layer.weights(IDS, SIDES, VISIBLE)
    assert weights.shape == (B, H, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T).double())
    assert bool((weights.masked_select(~MASK[:, None, None].expand_as(weights)) == 0).all())


def test_without_side_information_the_layer_is_ordinary_self_attention() -> None:
    layer = build("add", num_sides=0)
    plain = TransformerLayer(D, H, 8).double()
    plain.load_state_dict(layer.layer.state_dict())
    torch.testing.assert_close(layer(IDS, IDS.new_empty(B, T, 0, D), VISIBLE), plain(IDS, VISIBLE))


@pytest.mark.parametrize(("fusor", "gate"), FUSORS)
def test_constant_side_information_makes_the_order_irrelevant(fusor, gate) -> None:
    layer, order, constant = build(fusor, gate), torch.tensor([2, 0, 3, 1]), SIDES[:1, :1].expand(B, T, M, D)
    torch.testing.assert_close(layer(IDS[:, order], constant, VISIBLE[..., order]), layer(IDS, constant, VISIBLE)[:, order])
    assert not torch.allclose(layer(IDS[:, order], SIDES, VISIBLE[..., order]), layer(IDS, SIDES, VISIBLE)[:, order])


def test_gate_with_zero_logits_weighs_sources_uniformly() -> None:
    layer = build("gate", "softmax")
    weights = layer.fuse(SIDES, None, IDS, return_weights=True)[1]
    assert weights.shape == (B, T, M + 1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, T).double())
    total = IDS + SIDES.sum(2)
    for gate, factor in (("softmax", 1 / (M + 1)), ("sigmoid", 0.5)):
        layer = build("gate", gate)
        torch.nn.init.zeros_(layer.fuse.fuse.logits[0].weight)
        torch.testing.assert_close(layer.fuse(SIDES, None, IDS), factor * total)


def test_missing_side_information_is_never_read() -> None:
    model = NonInvasiveTransformer(D, M, num_heads=H).double().eval()
    hidden = SIDES.masked_fill(~PRESENT.unsqueeze(-1), torch.nan)
    assert torch.equal(model(IDS, hidden, MASK, present=PRESENT), model(IDS, SIDES, MASK, present=PRESENT))


def test_padding_is_never_read() -> None:
    torch.manual_seed(0)
    model = NonInvasiveTransformer(D, M, num_heads=H).double().eval()
    ids = torch.where(MASK.unsqueeze(-1), IDS, random(B, T, D, seed=9))
    sides = torch.where(MASK[..., None, None], SIDES, OTHERS)
    torch.testing.assert_close(model(ids, sides, MASK), model(IDS, SIDES, MASK))


def test_every_layer_gets_the_original_side_information() -> None:
    torch.manual_seed(0)
    model = NonInvasiveTransformer(D, M, num_heads=H).double().eval()
    first, second = model.layers
    torch.testing.assert_close(model(IDS, SIDES), second(first(IDS, SIDES), SIDES))
    torch.testing.assert_close(model.weights(IDS, SIDES), second.weights(first(IDS, SIDES), SIDES))
    positions = torch.tensor([3, 7, 6])
    torch.testing.assert_close(model(IDS, SIDES, MASK, positions=positions), model(IDS, SIDES, MASK).flatten(0, 1)[positions])
