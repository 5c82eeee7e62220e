import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.encoder.token import TokenEncoder
from gmmrec.nn.fusion.vision_language import VisionLanguageFusion
from tests.nn.fusion.checks import assert_never_read, layer_norm, random, random_mask, softmax

N, M, D, H = 6, 4, 6, 2


def build(**settings) -> VisionLanguageFusion:
    torch.manual_seed(0)
    return VisionLanguageFusion(D, **{"num_heads": H, **settings}).double().requires_grad_(True)


def slow(fusion: VisionLanguageFusion, tokens: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One vector and its weights, from the tokens that are there, one number after the other."""
    size = D // H
    for layer in fusion.read.layers:
        attention, made = layer.attention, []
        for x in tokens:
            heads = []
            for h in range(H):
                part = slice(h * size, (h + 1) * size)
                logits = [attention.query(x)[part] @ attention.key(y)[part] / math.sqrt(size) for y in tokens]
                heads.append(sum(share * attention.value(y)[part] for share, y in zip(softmax(logits), tokens, strict=True)))
            made.append(layer_norm(x + attention.output(torch.cat(heads)), layer.norm))
        tokens = made
    first, _, last = fusion.pool.logits[0]
    weights = softmax([last.weight[0] @ torch.tanh(first.weight @ x + first.bias) for x in tokens])
    return sum(share * x for share, x in zip(weights, tokens, strict=True)), weights


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_equals_the_equations_in_loops(num_layers) -> None:
    fusion, tokens, mask = build(num_layers=num_layers), random(N, M, D), random_mask(N, M)
    fused, weights = fusion(tokens, mask, return_weights=True)
    for n in range(N):
        positions = mask[n].nonzero().flatten().tolist()
        expected, shares = slow(fusion, [tokens[n, m] for m in positions]) if positions else (torch.zeros(D).double(), [])
        torch.testing.assert_close(fused[n], expected)
        torch.testing.assert_close(weights[n, positions], torch.stack(shares) if shares else weights[n, positions])


def test_the_order_of_tokens_does_not_matter() -> None:
    """With the type embedding, the bias of each projection, added first: then what a token is moves with it."""
    torch.manual_seed(0)
    encoders = [TokenEncoder(width, D).double() for width in (5, 3)]
    tokens = torch.cat([encoder(random(N, width)) for encoder, width in zip(encoders, (5, 3), strict=True)], dim=1)
    fusion = build()
    torch.testing.assert_close(fusion(tokens.flip(1)), fusion(tokens))
    swapped = torch.cat([tokens[:, :1] - encoders[0].project.bias + encoders[1].project.bias, tokens[:, 1:]], dim=1)
    assert not torch.allclose(fusion(swapped), fusion(tokens))


def test_without_a_picture_the_text_stands_alone() -> None:
    fusion, tokens = build(), random(N, 2, D)
    mask = torch.tensor([True, False]).expand(N, 2)
    torch.testing.assert_close(fusion(tokens, mask), fusion(tokens[:, :1]))


def test_missing_tokens_are_never_read() -> None:
    fusion, mask = build(), random_mask(N, M)
    assert_never_read(lambda x: fusion(x, mask), random(N, M, D), mask, fusion)


def test_the_mean_weighs_tokens_alike() -> None:
    fusion, tokens = build(pool="mean", num_layers=0), random(N, M, D)
    mask = torch.tensor([True, True, False, True]).expand(N, M)
    fused, weights = fusion(tokens, mask, return_weights=True)
    torch.testing.assert_close(fused, tokens[:, [0, 1, 3]].mean(1))
    torch.testing.assert_close(weights, mask.double() / 3)


def test_only_two_ways_to_pool() -> None:
    with pytest.raises(ValueError, match="pool must be 'additive' or 'mean', but is 'max'"):
        VisionLanguageFusion(D, num_heads=H, pool="max")
