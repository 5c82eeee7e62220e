import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn import attention
from gmmrec.nn.attention import MultiHeadAttention, attend
from tests.nn.fusion.checks import assert_same, random, softmax

B, P, T, H, W = 2, 3, 4, 2, 6
KEYS = torch.tensor([[[1, 0, 1, 1]], [[0, 0, 0, 0]]]).bool()  # [B, 1, T]
PAIRS = torch.ones(B, P, T).tril().bool() & torch.tensor([[True], [False], [True]])  # [B, P, T]


def slow(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    out, weights = torch.zeros(B, P, W).double(), torch.zeros(B, H, P, T).double()
    size = W // H
    for b in range(B):
        for h in range(H):
            part = slice(h * size, (h + 1) * size)
            for p in range(P):
                present = [t for t in range(T) if mask is None or mask.expand(B, P, T)[b, p, t]]
                shares = softmax([query[b, p, part] @ key[b, t, part] / math.sqrt(size) for t in present])
                for t, share in zip(present, shares, strict=True):
                    weights[b, h, p, t] = share
                    out[b, p, part] = out[b, p, part] + share * value[b, t, part]
    return out, weights


@pytest.mark.parametrize("mask", [None, KEYS, PAIRS], ids=["no mask", "tokens", "pairs"])
def test_equals_the_formula_in_loops(mask) -> None:
    layer = MultiHeadAttention(W, H, token_dim=5).double()
    queries, tokens = random(B, P, W).requires_grad_(), random(B, T, 5, seed=1).requires_grad_()
    heads, weights = slow(layer.query(queries), layer.key(tokens), layer.value(tokens), mask)
    expected = layer.output(heads)
    output, found = layer(queries, tokens, mask, return_weights=True)
    assert_same(output, expected, layer, queries, tokens)
    assert_same(layer(queries, tokens, mask)[0], expected, layer, queries, tokens)  # the fused kernel
    assert_same(found, weights, layer, queries, tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fully_masked_query_yields_zeros_without_gradients(dtype) -> None:
    query, key, value = (random(B, n, W, seed=n).to(dtype).requires_grad_() for n in (P, T, T))
    nowhere = torch.zeros(B, 1, T, dtype=torch.bool)
    for output in (attend(query, key, value, nowhere), attend(query, key, value, nowhere, return_weights=True)[0]):
        assert torch.equal(output, torch.zeros_like(output))
        for gradient in torch.autograd.grad(output.sum(), [query, key, value]):
            assert not bool(gradient.any())


def test_kernels_get_no_fully_masked_query(monkeypatch) -> None:
    kernel, masks = torch.nn.functional.scaled_dot_product_attention, []

    def recorded(*args: Tensor, attn_mask: Tensor, **options: float) -> Tensor:
        masks.append(attn_mask)
        return kernel(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    attend(random(B, P, W), random(B, T, W), random(B, T, W), PAIRS)
    assert [bool(mask.any(-1).all()) for mask in masks] == [True]


def test_attention_over_no_tokens_is_zero() -> None:
    empty = torch.zeros(B, 0, W)
    for mask in (None, torch.zeros(B, 1, 0, dtype=torch.bool)):
        assert torch.equal(attend(torch.ones(B, P, W), empty, empty, mask, num_heads=H), torch.zeros(B, P, W))


def test_any_number_of_leading_axes() -> None:
    query, key = random(5, B, P, W), random(5, B, T, W, seed=1)
    whole = attend(query, key, key, KEYS, num_heads=H)
    for i in range(5):
        torch.testing.assert_close(whole[i], attend(query[i], key[i], key[i], KEYS, num_heads=H))


@pytest.mark.parametrize("mask", [None, KEYS, KEYS[:1]], ids=["no mask", "tokens", "one row"])
def test_leading_axes_are_broadcast(mask) -> None:
    query, key, value = random(5, 1, P, W), random(B, T, W, seed=1), random(5, B, T, W, seed=2)
    output = attend(query, key, value, mask, num_heads=H)
    torch.testing.assert_close(
        output, attend(query, key, value, mask, num_heads=H, return_weights=True)[0]
    )  # without the fused kernel
    for i in range(5):
        for b in range(B):
            row_mask = None if mask is None else mask.expand(B, 1, T)[b]
            torch.testing.assert_close(output[i, b], attend(query[i, 0], key[b], value[i, b], row_mask, num_heads=H))


@pytest.mark.parametrize("mask", [None, KEYS], ids=["no mask", "tokens"])
def test_bias_is_added_to_the_logits_of_every_head(mask) -> None:
    query, key, value, bias = random(B, P, W), random(B, T, W, seed=1), random(B, T, W, seed=2), random(B, P, T, seed=3)
    output, weights = attend(query, key, value, mask, bias=bias, num_heads=H, return_weights=True)
    unbiased = attend(query, key, value, mask, num_heads=H, return_weights=True)[1] * bias.exp().unsqueeze(1)
    torch.testing.assert_close(weights, unbiased / unbiased.sum(-1, keepdim=True).clamp(min=1e-30))
    torch.testing.assert_close(attend(query, key, value, mask, bias=bias, num_heads=H), output)  # the fused kernel


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(W, H, dropout=0.5).double()
    tokens = random(B, T, W)
    for return_weights in (False, True):
        layer.train()
        drawn = torch.stack([layer(tokens, tokens, return_weights=return_weights)[0] for _ in range(2000)])
        layer.eval()
        exact = layer(tokens, tokens)[0]
        assert bool((drawn.std(0) > 0.01).all())
        torch.testing.assert_close(drawn.mean(0), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("mask", [None, KEYS], ids=["no mask", "tokens"])
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_dropped_weights_are_those_of_the_kernel(mask, biased, monkeypatch) -> None:
    """With a ``drop`` that drops nothing, the path without the kernel must agree with the kernel."""
    calls = []
    monkeypatch.setattr(attention, "drop", lambda weights, p: calls.append((weights, p)) or weights)
    parts = random(B, P, W), random(B, T, W, seed=1), random(B, T, W, seed=2), mask
    bias = random(B, P, T, seed=3) if biased else None
    output = attend(*parts, bias=bias, num_heads=H, dropout=0.25)
    ((weights, p),) = calls
    torch.testing.assert_close(output, attend(*parts, bias=bias, num_heads=H))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, P, dtype=weights.dtype))
    assert p == 0.25


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the width 6, but is 4"):
        MultiHeadAttention(6, 4)
