"""Invariants of MKGformer's fusion, and the encoder against its equations in loops."""

import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from gmmrec.nn.fusion.multi_level import MEncoder, TextLayer
from gmmrec.nn.fusion.prefix import PrefixGuidedAttention

B, N, M, D, H = 2, 4, 5, 8, 2


def tokens(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    text, vision = torch.randn(B, N, D, generator=generator), torch.randn(B, M, D, generator=generator)
    text_mask, vision_mask = torch.ones(B, N) > 0, torch.ones(B, M) > 0
    text_mask[0, 2:], vision_mask[1, 3:] = False, False
    return text, vision, text_mask, vision_mask


def encoder(**settings) -> MEncoder:
    torch.manual_seed(0)
    return MEncoder(D, H, **{"num_layers": 2, **settings}).eval()


# Invariants


def test_shapes() -> None:
    text, vision, *masks = tokens()
    words, regions, weights = encoder()(text, vision, *masks, return_weights=True)
    assert words.shape == (B, N, D)
    assert regions.shape == (B, M, D)
    assert [tuple(w.shape) for w in weights.pgi] == [(B, H, M, N + M)] * 2
    assert [tuple(w.shape) for w in weights.caf] == [(B, N, M)] * 2


def test_rows_sum_to_one_and_missing_tokens_have_no_effect() -> None:
    text, vision, text_mask, vision_mask = tokens()
    model = encoder()
    words, regions, weights = model(text, vision, text_mask, vision_mask, return_weights=True)
    for pgi, caf in zip(weights.pgi, weights.caf, strict=True):
        torch.testing.assert_close(pgi.sum(-1), vision_mask[:, None].expand(B, H, M).float())
        torch.testing.assert_close(caf.sum(-1), text_mask.float())
        assert bool((pgi[..., :N].masked_select(~text_mask[:, None, None]) == 0).all())
        assert bool((caf.masked_select(~vision_mask[:, None]) == 0).all())
    text, vision = text.masked_fill(~text_mask[..., None], 1e6), vision.masked_fill(~vision_mask[..., None], torch.nan)
    other = model(text, vision, text_mask, vision_mask, return_weights=True)
    assert torch.equal(other[0], words)
    assert torch.equal(other[1], regions)


def test_guided_attention_is_a_gate_between_regions_and_words() -> None:
    torch.manual_seed(0)
    layer = PrefixGuidedAttention(D, H, project_prefix=False).double()
    x, key, value = (torch.randn(B, n, D).double() for n in (M, N, N))
    actual, weights = layer(x, prefix=(key, value), return_weights=True)
    heads = [[t.view(B, -1, H, D // H).transpose(1, 2) for t in parts] for parts in ((key, value), (layer.key(x), layer.value(x)))]
    query = layer.query(x).view(B, M, H, D // H).transpose(1, 2)
    logits = [query @ k.mT / math.sqrt(D // H) for k, _ in heads]
    mass = [part.exp().sum(-1, keepdim=True) for part in logits]
    gate = mass[0] / (mass[0] + mass[1])  # the λ of the paper
    cross, self_part = (part.softmax(-1) @ v for part, (_, v) in zip(logits, heads, strict=True))
    expected = layer.output(((1 - gate) * self_part + gate * cross).transpose(1, 2).reshape(B, M, D))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert bool(((gate > 0) & (gate < 1)).all())
    torch.testing.assert_close(weights[..., :N].sum(-1, keepdim=True), gate)


def test_without_words_guided_attention_is_self_attention() -> None:
    torch.manual_seed(0)
    layer = PrefixGuidedAttention(D, H, project_prefix=False)
    x, prefix = torch.randn(B, M, D), (torch.randn(B, N, D), torch.randn(B, N, D))
    actual, weights = layer(x, prefix=prefix, prefix_mask=torch.zeros(B, N) > 0, return_weights=True)
    torch.testing.assert_close(actual, layer(x))
    assert not bool(weights[..., :N].any())


def test_correlation_with_zero_map_is_feed_forward_and_equal_regions_are_gathered_unchanged() -> None:
    torch.manual_seed(0)
    caf = CorrelationAwareFusion(D, 4 * D)
    text, region = torch.randn(B, N, D), torch.randn(D)
    vision = region.expand(B, M, D)
    fused, weights = caf(text, None, vision, return_weights=True)
    torch.testing.assert_close(weights @ vision, region.expand(B, N, D))
    inner = caf.own(text) + caf.gathered(region)
    torch.testing.assert_close(fused, caf.norm(text + caf.output(torch.nn.functional.gelu(inner))))
    with torch.no_grad():
        caf.gathered.weight.zero_()
    plain = caf.norm(text + caf.output(torch.nn.functional.gelu(caf.own(text))))
    torch.testing.assert_close(caf(text, None, torch.randn(B, M, D)), plain)


def test_order_of_regions_does_not_matter() -> None:
    text, vision, text_mask, vision_mask = tokens()
    order = torch.tensor([3, 0, 4, 2, 1])
    model = encoder()
    words, regions, weights = model(text, vision, text_mask, vision_mask, return_weights=True)
    other, permuted_regions, permuted_weights = model(text, vision[:, order], text_mask, vision_mask[:, order], return_weights=True)
    torch.testing.assert_close(other, words)
    torch.testing.assert_close(permuted_regions, regions[:, order])
    for original, permuted in zip(weights.caf, permuted_weights.caf, strict=True):
        torch.testing.assert_close(permuted, original[..., order])


def test_guiding_does_not_change_words_and_without_correlation_words_do_not_depend_on_the_image() -> None:
    text, vision, *masks = tokens()
    before = text.clone()
    key = text.clone()
    PrefixGuidedAttention(D, H, project_prefix=False)(vision, prefix=(key, text))
    assert torch.equal(text, before)
    without_caf = encoder(use_caf=False)
    assert torch.equal(without_caf(text, vision, *masks)[0], without_caf(text, vision.flip(-1), *masks)[0])
    with_caf = encoder()
    assert not torch.allclose(with_caf(text, vision, *masks)[0], with_caf(text, vision.flip(-1), *masks)[0])


# The whole encoder


@pytest.mark.parametrize("has_prefix", [True, False], ids=["prefix", "own prefix"])
def test_encoder_equals_the_equations_in_loops(has_prefix) -> None:
    text, vision, text_mask, vision_mask = (x.double() if x.is_floating_point() else x for x in tokens())
    model = encoder().double()
    before = TextLayer(D, H, 4 * D).double()
    prefix = before.keys_and_values(text) if has_prefix else None
    actual, regions = model(text, vision, text_mask, vision_mask, prefix)
    for b in range(B):
        x, v = text[b, text_mask[b]], vision[b, vision_mask[b]]
        guide = tuple(t[b, text_mask[b]] for t in prefix) if has_prefix else None
        for words, vision_layer in zip(model.text, model.vision, strict=True):
            kv = words.key(x), words.value(x)
            k_t, v_t = kv if guide is None else guide
            v = slow_vision(vision_layer, v, k_t, v_t)
            x = slow_text(words, x, v)
            guide = kv
        torch.testing.assert_close(actual[b, text_mask[b]], x)
        torch.testing.assert_close(regions[b, vision_mask[b]], v)
        assert not bool(actual[b, ~text_mask[b]].any())


def slow_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    d = D // H
    rows = []
    for q in query:
        parts = []
        for h in range(H):
            cut = slice(h * d, (h + 1) * d)
            weight = torch.stack([q[cut] @ k[cut] / math.sqrt(d) for k in key]).softmax(0)
            parts.append(sum(w * x[cut] for w, x in zip(weight, value, strict=True)))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def slow_vision(layer, v: Tensor, k_t: Tensor, v_t: Tensor) -> Tensor:
    y, a = layer.norm(v), layer.attention
    v = v + a.output(slow_attention(a.query(y), torch.cat([k_t, a.key(y)]), torch.cat([v_t, a.value(y)])))
    hidden = layer.inner(layer.feed_norm(v))
    return v + layer.outer(hidden / (1 + torch.exp(-1.702 * hidden)))


def slow_text(layer, x: Tensor, v: Tensor) -> Tensor:
    context = slow_attention(layer.query(x), layer.key(x), layer.value(x))
    mixed = layer.norm(x + layer.output(context))
    f = layer.fuse
    gathered = torch.stack([torch.stack([c @ r for r in v]).softmax(0) @ v for c in context])
    inner = f.own(mixed) + gathered @ f.gathered.weight.T
    return f.norm(mixed + f.output(0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))))


def test_words_do_not_need_regions() -> None:
    text, _, text_mask, _ = tokens()
    model = encoder()
    words, regions = model(text, None, text_mask)
    assert regions is None
    none = torch.zeros(B, M) > 0
    torch.testing.assert_close(model(text, torch.full((B, M, D), torch.nan), text_mask, none)[0], words)


def test_without_guiding_regions_do_not_depend_on_words() -> None:
    text, vision, *masks = tokens()
    plain = encoder(use_pgi=False)
    assert torch.equal(plain(text, vision, *masks)[1], plain(text.flip(-1), vision, *masks)[1])


def test_gradients_reach_every_parameter() -> None:
    text, vision, *masks = tokens()
    model = encoder(dropout=0.1).train()
    words, _ = model(text, vision, *masks)
    words.square().sum().backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert all(name.endswith("key.bias") for name in unreached)  # a softmax is invariant to a constant shift of its logits
