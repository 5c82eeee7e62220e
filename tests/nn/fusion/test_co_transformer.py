import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.fusion.co_transformer import CoTransformerLayer
from gmmrec.nn.fusion.gate import GateFusion
from tests.nn.fusion.checks import assert_never_read, assert_same, layer_norm, random, random_mask, softmax

B, T, V, D_T, D_V, WIDTH, H = 3, 4, 5, 6, 4, 8, 2
WORDS, REGIONS = random_mask(B, T), random_mask(B, V, seed=7)
WORDS[0, 1] = True


@pytest.fixture
def layer() -> CoTransformerLayer:
    torch.manual_seed(0)
    return CoTransformerLayer(D_T, D_V, width=WIDTH, num_heads=H, left_hidden=5).double()


def inputs() -> tuple[Tensor, Tensor]:
    return random(B, T, D_T).requires_grad_(), random(B, V, D_V, seed=1).requires_grad_()


def slow(side: nn.Module, tokens: Tensor, other: Tensor, own_mask: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the tokens and the weights of one side."""
    out, weights = torch.zeros(tokens.shape).double(), torch.zeros(B, H, tokens.shape[1], other.shape[1]).double()
    a, size = side.attention, WIDTH // H
    for b in range(B):
        present = [j for j in range(other.shape[1]) if mask[b, j]]
        for i in range(tokens.shape[1]):
            if not own_mask[b, i]:
                continue
            messages = []
            for h in range(H):
                part = slice(h * size, (h + 1) * size)
                query = a.query.weight[part] @ tokens[b, i] + a.query.bias[part]
                keys = [a.key.weight[part] @ other[b, j] + a.key.bias[part] for j in present]
                values = [a.value.weight[part] @ other[b, j] + a.value.bias[part] for j in present]
                shares = softmax([query @ key / math.sqrt(size) for key in keys])
                messages.append(sum((s * v for s, v in zip(shares, values, strict=True)), torch.zeros(size).double()))
                for j, weight in zip(present, shares, strict=True):
                    weights[b, h, i, j] = weight
            e = layer_norm(tokens[b, i] + a.output.weight @ torch.cat(messages) + a.output.bias, side.norm)
            hidden = F.gelu(side.feed[0].weight @ e + side.feed[0].bias)
            out[b, i] = layer_norm(e + side.feed[2].weight @ hidden + side.feed[2].bias, side.hidden_norm)
    return out, weights


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(layer, masked) -> None:
    words, regions = inputs()
    masks = (WORDS, REGIONS) if masked else (None, None)
    full = masks if masked else (torch.ones_like(WORDS), torch.ones_like(REGIONS))
    left, right = slow(layer.left, words, regions, *full), slow(layer.right, regions, words, full[1], full[0])
    actual, weights = layer(words, regions, *masks, return_weights=True)
    for sides in (actual, layer(words, regions, *masks)):
        assert_same(
            torch.cat([x.flatten() for x in sides]), torch.cat([left[0].flatten(), right[0].flatten()]), layer, words, regions
        )
    assert_same(weights[0], left[1], layer, words, regions)
    assert_same(weights[1], right[1], layer, words, regions)


def test_masked_values_are_never_read(layer) -> None:
    words, regions = inputs()
    assert_never_read(lambda x: _flat(layer(x, regions, WORDS, REGIONS)), words, WORDS, layer)
    assert_never_read(lambda x: _flat(layer(words, x, WORDS, REGIONS)), regions, REGIONS, layer)


def _flat(sides: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([side.flatten() for side in sides])


def pool() -> tuple[nn.Linear, GateFusion]:
    torch.manual_seed(1)
    return nn.Linear(D_T, 7).double(), GateFusion(7).double()


def test_shapes(layer) -> None:
    words, regions = inputs()
    (new_words, new_regions), (word_weights, region_weights) = layer(words, regions, return_weights=True)
    assert (new_words.shape, new_regions.shape) == ((B, T, D_T), (B, V, D_V))
    assert (word_weights.shape, region_weights.shape) == ((B, H, T, V), (B, H, V, T))
    project, gate = pool()
    pooled, weights = gate(project(new_words), WORDS, return_weights=True)
    assert (pooled.shape, weights.shape) == ((B, 7), (B, T))


def test_rows_sum_to_one_over_present_tokens_and_padding_changes_nothing(layer) -> None:
    words, regions = inputs()
    sides, (word_weights, region_weights) = layer(words, regions, WORDS, REGIONS, return_weights=True)
    for weights, rows, columns in ((word_weights, WORDS, REGIONS), (region_weights, REGIONS, WORDS)):
        expected = (rows & columns.any(1, keepdim=True)).double().unsqueeze(1).expand(B, H, -1)
        torch.testing.assert_close(weights.sum(-1), expected)
        assert bool((weights * ~columns[:, None, None] == 0).all())
    wide = torch.cat([words, random(B, 2, D_T, seed=3)], 1), torch.cat([regions, random(B, 3, D_V, seed=4)], 1)
    masks = F.pad(WORDS, (0, 2)), F.pad(REGIONS, (0, 3))
    padded = layer(*wide, *masks)
    torch.testing.assert_close(padded[0][:, :T], sides[0])
    torch.testing.assert_close(padded[1][:, :V], sides[1])


def test_missing_regions_give_a_zero_context(layer) -> None:
    words, regions = inputs()
    none = torch.zeros(B, V, dtype=torch.bool)
    new_words, new_regions = layer(words, regions.detach() * torch.nan, None, none)
    mixed = layer.left.norm(words + layer.left.attention.output.bias)  # the context is zero before the output projection
    torch.testing.assert_close(new_words, layer.left.hidden_norm(mixed + layer.left.feed(mixed)))
    assert torch.equal(new_regions, torch.zeros(B, V, D_V).double())
    assert torch.equal(GateFusion(D_V).double()(new_regions, none), torch.zeros(B, D_V).double())


def test_order_of_regions_does_not_matter(layer) -> None:
    words, regions = inputs()
    order = torch.tensor([4, 2, 0, 1, 3])
    sides, permuted = layer(words, regions, WORDS, REGIONS), layer(words, regions[:, order], WORDS, REGIONS[:, order])
    torch.testing.assert_close(permuted[0], sides[0])
    torch.testing.assert_close(permuted[1], sides[1][:, order])


def test_single_tokens_read_each_other_with_weight_one() -> None:
    torch.manual_seed(0)
    layer = CoTransformerLayer(D_T, D_T, num_heads=1).double()
    _, weights = layer(random(1, 1, D_T), random(1, 1, D_T, seed=1), return_weights=True)
    assert [w.item() for w in weights] == [1.0, 1.0]
