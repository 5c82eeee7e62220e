import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.transformer import TransformerEncoder, TransformerLayer
from tests.nn.fusion.checks import assert_never_read, assert_same, layer_norm, random, softmax

D, H, T = 6, 2, 4
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()


def build(num_layers: int = 2, **settings) -> TransformerEncoder:
    torch.manual_seed(0)
    return TransformerEncoder(D, num_layers=num_layers, num_heads=H, ffn_mult=2, **settings).double()


def slow(encoder: TransformerEncoder, tokens: list[Tensor]) -> list[Tensor]:
    size = D // H
    for layer in encoder.layers:
        attention, outputs = layer.attention, []
        for x in tokens:
            heads = []
            for h in range(H):
                part = slice(h * size, (h + 1) * size)
                logits = [attention.query(x)[part] @ attention.key(y)[part] / math.sqrt(size) for y in tokens]
                heads.append(sum(share * attention.value(y)[part] for share, y in zip(softmax(logits), tokens, strict=True)))
            s = layer_norm(x + attention.output(torch.cat(heads)), layer.norm)
            inner = layer.ffn[0](s)
            inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
            outputs.append(layer_norm(s + layer.ffn[2](inner), layer.ffn_norm))
        tokens = outputs
    return tokens


def test_output_equals_the_formula_in_loops() -> None:
    encoder, x = build(), random(3, T, D).requires_grad_()
    rows = []
    for n in range(3):
        positions = [t for t in range(T) if MASK[n, t]]
        found = dict(zip(positions, slow(encoder, [x[n, t] for t in positions]), strict=True))
        rows.append(torch.stack([found.get(t, torch.zeros(D).double()) for t in range(T)]))
    assert_same(encoder(x, MASK), torch.stack(rows), encoder, x)


def test_missing_tokens_are_never_read() -> None:
    encoder = build()
    assert_never_read(lambda x: encoder(x, MASK), random(3, T, D), MASK, encoder)


def test_permuting_tokens_permutes_the_result() -> None:
    encoder, x, order = build(), random(3, T, D), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(encoder(x[:, order], MASK[:, order]), encoder(x, MASK)[:, order])


def test_without_layers_tokens_are_unchanged() -> None:
    x = random(3, T, D)
    assert torch.equal(build(0)(x), x)
    assert torch.equal(build(0)(x, MASK), x * MASK.unsqueeze(-1))


def test_feed_forward_layer_is_optional() -> None:
    torch.manual_seed(0)
    encoder, x = TransformerEncoder(D, num_heads=H, ffn_mult=0).double(), random(3, T, D).requires_grad_()
    (layer,) = encoder.layers
    assert_same(encoder(x), layer.norm(x + layer.attention(x, x)[0]), encoder, x)


def test_dropout_acts_in_training_only() -> None:
    encoder, x = build(dropout=0.5), random(3, T, D)
    assert not torch.equal(encoder(x), encoder(x))
    torch.testing.assert_close(encoder.eval()(x), build()(x))


def test_causal_tokens_do_not_depend_on_later_ones() -> None:
    encoder, x = build(causal=True), random(3, T, D)
    for t in range(1, T + 1):
        torch.testing.assert_close(encoder(x)[:, t - 1], encoder(x[:, :t])[:, -1])
    changed = x.clone()
    changed[:, 2] += 1
    assert torch.equal(encoder(changed)[:, :2], encoder(x)[:, :2])
    assert not torch.allclose(encoder(changed)[:, 3], encoder(x)[:, 3])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_tokens_at_positions_are_those_of_the_full_output(causal, num_layers) -> None:
    encoder, x = build(num_layers, causal=causal), random(3, T, D).requires_grad_()
    positions = torch.tensor([6, 0, 3, 4, 2])
    visible = MASK | torch.tensor([[False], [False], [True]])
    assert_same(encoder(x, visible, positions[[1, 2, 4]]), encoder(x, visible).flatten(0, 1)[[0, 3, 2]], encoder, x)
    assert_same(encoder(x, None, positions), encoder(x).flatten(0, 1)[positions], encoder, x)


def test_guides_make_queries_and_keys_and_tokens_the_values() -> None:
    torch.manual_seed(0)
    layer, x, guides = TransformerLayer(D, 1, D).double(), random(1, T, D), random(1, T, D, seed=1)
    attention = layer.attention
    weights = (attention.query(guides) @ attention.key(guides).mT / math.sqrt(D)).softmax(-1)
    mixed = layer.norm(x + attention.output(weights @ attention.value(x)))
    torch.testing.assert_close(layer(x, guides=guides), layer.ffn_norm(mixed + layer.ffn(mixed)))
    torch.testing.assert_close(layer(x, guides=x), layer(x))


def test_attention_weights_are_dropped_in_training_only() -> None:
    encoder, x = build(attention_dropout=0.5), random(3, T, D)
    assert not torch.equal(encoder(x), encoder(x))
    torch.testing.assert_close(encoder.eval()(x), build()(x))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the width 6, but is 4"):
        TransformerEncoder(6, num_heads=4)
