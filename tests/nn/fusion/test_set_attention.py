import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.set_attention import SetAttention
from tests.nn.fusion.checks import assert_never_read, assert_same, layer_norm, random, random_mask, softmax

B, M, D_IN, D, H, LAYERS = 3, 4, 5, 6, 2, 2
MASK = random_mask(B, M)
REPLACE = torch.zeros(B, M, dtype=torch.bool)
REPLACE[1, 0] = REPLACE[2, 3] = True
MASK[1, 0] = True


def build(**options) -> SetAttention:
    torch.manual_seed(0)
    return SetAttention(D, num_layers=LAYERS, num_heads=H, in_dim=D_IN, hidden=7, **options).double()


def slow(model: SetAttention, tokens: Tensor, mask: Tensor, replace: Tensor) -> tuple[Tensor, Tensor]:
    out, maps, size = torch.zeros(B, M, D_IN).double(), torch.zeros(B, LAYERS, H, M, M).double(), D // H
    for b in range(B):
        there = [i for i in range(M) if mask[b, i]]
        h = {}
        for i in there:
            x = model.unknown if replace[b, i] else tokens[b, i]
            first, last = model.transition[0], model.transition[-1]
            h[i] = last.weight @ F.leaky_relu(first.weight @ x + first.bias) + last.bias
        for number, layer in enumerate(model.layers):
            a, new = layer.attention, {}
            for i in there:
                messages = []
                for head in range(H):
                    part = slice(head * size, (head + 1) * size)
                    query = a.query.weight[part] @ h[i] + a.query.bias[part]
                    keys = [a.key.weight[part] @ h[j] + a.key.bias[part] for j in there]
                    shares = softmax([query @ key / math.sqrt(size) for key in keys])
                    values = [a.value.weight[part] @ h[j] + a.value.bias[part] for j in there]
                    messages.append(sum(share * value for share, value in zip(shares, values, strict=True)))
                    for j, share in zip(there, shares, strict=True):
                        maps[b, number, head, i, j] = share
                z = layer_norm(h[i] + a.output.weight @ torch.cat(messages) + a.output.bias, layer.norm)
                fed = layer.feed[2].weight @ F.leaky_relu(layer.feed[0].weight @ z + layer.feed[0].bias) + layer.feed[2].bias
                new[i] = layer_norm(z + fed, layer.hidden_norm)
            h = new
        for i in there:
            out[b, i] = model.output.weight @ h[i]
    return out, maps


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked) -> None:
    model, tokens = build(), random(B, M, D_IN).requires_grad_()
    mask = MASK if masked else None
    expected, expected_maps = slow(model, tokens, MASK if masked else torch.ones_like(MASK), REPLACE)
    found, maps = model(tokens, mask, REPLACE, return_weights=True)
    assert_same(found, expected, model, tokens)
    assert_same(model(tokens, mask, REPLACE), expected, model, tokens)
    assert_same(maps, expected_maps, model, tokens)


def test_values_of_missing_and_of_hidden_items_are_never_read() -> None:
    model = build()
    assert_never_read(lambda x: model(x, MASK, REPLACE), random(B, M, D_IN), MASK & ~REPLACE, model)


def test_the_order_of_the_set_does_not_matter() -> None:
    model, tokens, order = build(), random(B, M, D_IN), torch.tensor([2, 0, 3, 1])
    whole, maps = model(tokens, MASK, REPLACE, return_weights=True)
    turned, turned_maps = model(tokens[:, order], MASK[:, order], REPLACE[:, order], return_weights=True)
    torch.testing.assert_close(turned, whole[:, order])
    torch.testing.assert_close(turned_maps, maps[..., order, :][..., order])
    others = torch.tensor([0, 3, 1, 2])  # the first stays, hidden; the others are shuffled
    hidden = torch.tensor([True, False, False, False])
    torch.testing.assert_close(model(tokens[:, others], None, hidden)[:, 0], model(tokens, None, hidden)[:, 0])


def test_a_hidden_item_is_not_seen() -> None:
    model, tokens = build(), random(B, M, D_IN)
    noise = torch.where(REPLACE[..., None], random(B, M, D_IN, seed=8) * 100, tokens)
    assert torch.equal(model(noise, MASK, REPLACE), model(tokens, MASK, REPLACE))
    assert not torch.allclose(model(noise, MASK), model(tokens, MASK))


def test_padding_changes_nothing_and_rows_sum_to_one() -> None:
    model, tokens = build(), random(B, M, D_IN)
    made, maps = model(tokens, MASK, return_weights=True)
    torch.testing.assert_close(maps.sum(-1), MASK[:, None, None].expand(B, LAYERS, H, M).double())
    assert bool((maps * ~MASK[:, None, None, None] == 0).all())
    longer = model(torch.cat([tokens, random(B, 3, D_IN, seed=4)], 1), F.pad(MASK, (0, 3)))
    torch.testing.assert_close(longer[:, :M], made)
    assert not bool(longer[:, M:].any())


def test_an_empty_set_is_zeros_without_a_gradient() -> None:
    model, tokens = build(), random(B, M, D_IN).requires_grad_()
    made = model(tokens, torch.zeros_like(MASK))
    assert not bool(made.any())
    made.sum().backward()
    assert all(x.grad is None or not bool(x.grad.any()) for x in (tokens, *model.parameters()))


def test_one_item_alone_attends_to_itself() -> None:
    _, maps = build()(random(B, 1, D_IN), return_weights=True)
    assert torch.equal(maps, torch.ones(B, LAYERS, H, 1, 1).double())


def test_widths_and_transition() -> None:
    plain = SetAttention(8, num_heads=2, in_dim=3, out_dim=5, transition=False)
    assert plain(torch.randn(2, 6, M, 3)).shape == (2, 6, M, 5)
    assert len(plain.transition) == 1
    assert SetAttention(8)(torch.randn(2, M, 8)).shape == (2, M, 8)
