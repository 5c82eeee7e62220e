import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.prefix import PrefixGuidedAttention
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

B, V, T, D, D_T, H = 3, 4, 3, 6, 5, 2
REGIONS, WORDS = random_mask(B, V), random_mask(B, T, seed=3)
REGIONS[0, 2] = True  # the first sample has regions, but no words


@pytest.fixture
def layer() -> PrefixGuidedAttention:
    torch.manual_seed(0)
    return PrefixGuidedAttention(D, H, prefix_dim=D_T).double()


def inputs() -> tuple[Tensor, Tensor]:
    return random(B, V, D).requires_grad_(), random(B, T, D_T, seed=1).requires_grad_()


def slow(layer: PrefixGuidedAttention, regions: Tensor, words: Tensor, masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    out, weights = torch.zeros(B, V, D).double(), torch.zeros(B, H, V, T + V).double()
    size = D // H
    for b in range(B):
        for i in range(V):
            if not masks[0][b, i]:
                continue
            heads = []
            for h in range(H):
                part, value_part = slice(h * size, (h + 1) * size), slice(D + h * size, D + (h + 1) * size)
                entries = {}
                for t in range(T):
                    if masks[1][b, t]:
                        w, bias = layer.prefix.weight, layer.prefix.bias
                        entries[t] = (w[part] @ words[b, t] + bias[part], w[value_part] @ words[b, t] + bias[value_part])
                for j in range(V):
                    if masks[0][b, j]:
                        x = regions[b, j]
                        key, value = (m.weight[part] @ x + m.bias[part] for m in (layer.key, layer.value))
                        entries[T + j] = (key, value)
                query = layer.query.weight[part] @ regions[b, i] + layer.query.bias[part]
                shares = softmax([query @ key / math.sqrt(size) for key, _ in entries.values()])
                for column, share in zip(entries, shares, strict=True):
                    weights[b, h, i, column] = share
                heads.append(sum(share * value for share, (_, value) in zip(shares, entries.values(), strict=True)))
            out[b, i] = layer.output.weight @ torch.cat(heads) + layer.output.bias
    return out, weights


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(layer, masked) -> None:
    regions, words = inputs()
    masks = (REGIONS, WORDS) if masked else (None, None)
    full = (REGIONS, WORDS) if masked else (torch.ones_like(REGIONS), torch.ones_like(WORDS))
    expected, expected_weights = slow(layer, regions, words, full)
    actual, weights = layer(regions, masks[0], words, masks[1], return_weights=True)
    assert_same(actual, expected, layer, regions, words)
    assert_same(layer(regions, masks[0], words, masks[1]), expected, layer, regions, words)
    assert_same(weights, expected_weights, layer, regions, words)


def test_masked_values_are_never_read(layer) -> None:
    regions, words = inputs()
    assert_never_read(lambda x: layer(x, REGIONS, words, WORDS), regions, REGIONS, layer)
    assert_never_read(lambda x: layer(regions, REGIONS, x, WORDS), words, WORDS, layer)


@pytest.mark.parametrize("masks", [(REGIONS, None), (None, WORDS)], ids=["regions", "words"])
def test_single_mask_is_enough(layer, masks) -> None:
    regions, words = inputs()
    full = [torch.ones_like(other) if mask is None else mask for mask, other in zip(masks, (REGIONS, WORDS), strict=True)]
    torch.testing.assert_close(layer(regions, masks[0], words, masks[1]), layer(regions, full[0], words, full[1]))


def test_precomputed_keys_and_values_are_equivalent(layer) -> None:
    regions, words = inputs()
    bare = PrefixGuidedAttention(D, H, project_prefix=False).double()
    bare.load_state_dict({name: value for name, value in layer.state_dict().items() if not name.startswith("prefix")})
    pair = layer.prefix(words).chunk(2, dim=-1)
    torch.testing.assert_close(bare(regions, REGIONS, pair, WORDS), layer(regions, REGIONS, words, WORDS))
    with pytest.raises(ValueError, match="with project_prefix=False the prefix must be a pair of keys and values"):
        bare(regions, None, words)
    with pytest.raises(ValueError, match="with project_prefix=True the prefix must be tokens"):
        layer(regions, None, pair)


def test_shapes(layer) -> None:
    regions, words = inputs()
    out, weights = layer(regions, None, words, return_weights=True)
    assert (out.shape, weights.shape) == ((B, V, D), (B, H, V, T + V))


def test_rows_sum_to_one_and_missing_tokens_have_weight_zero(layer) -> None:
    regions, words = inputs()
    out, weights = layer(regions, REGIONS, words, WORDS, return_weights=True)
    torch.testing.assert_close(weights.sum(-1), REGIONS[:, None].expand(B, H, V).double())
    assert bool((weights * ~torch.cat([WORDS, REGIONS], 1)[:, None, None] == 0).all())
    wide = layer(
        torch.cat([regions, random(B, 2, D, seed=5)], 1),
        F.pad(REGIONS, (0, 2)),
        F.pad(words, (0, 0, 0, 1), value=7.0),
        F.pad(WORDS, (0, 1)),
    )
    torch.testing.assert_close(wide[:, :V], out)


def test_it_is_a_gate_between_regions_and_words(layer) -> None:
    regions, words = inputs()
    out, weights = layer(regions, None, words, return_weights=True)
    gate = weights[..., :T].sum(-1)  # [B, H, V]
    assert bool(((gate > 0) & (gate < 1)).all())

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (H, -1)).transpose(1, 2)  # [B, H, tokens, d]

    query, key, value = (split(part(regions)) for part in (layer.query, layer.key, layer.value))
    word_key, word_value = (split(x) for x in layer.prefix(words).chunk(2, dim=-1))
    self_logits, prefix_logits = query @ key.mT / (D // H) ** 0.5, query @ word_key.mT / (D // H) ** 0.5
    mass = prefix_logits.exp().sum(-1) / (prefix_logits.exp().sum(-1) + self_logits.exp().sum(-1))
    torch.testing.assert_close(gate, mass)
    mixed = (1 - mass)[..., None] * (self_logits.softmax(-1) @ value) + mass[..., None] * (prefix_logits.softmax(-1) @ word_value)
    torch.testing.assert_close(out, layer.output(mixed.transpose(1, 2).flatten(2)))


def test_without_words_it_is_self_attention(layer) -> None:
    regions, words = inputs()
    plain = layer(regions, REGIONS)
    out, weights = layer(regions, REGIONS, words, torch.zeros_like(WORDS), return_weights=True)
    torch.testing.assert_close(out, plain)
    assert not bool(weights[..., :T].any())
    reference = torch.nn.MultiheadAttention(D, H, batch_first=True).double()
    reference.in_proj_weight.data = torch.cat([layer.query.weight, layer.key.weight, layer.value.weight])
    reference.in_proj_bias.data = torch.cat([layer.query.bias, layer.key.bias, layer.value.bias])
    reference.out_proj.load_state_dict(layer.output.state_dict())
    torch.testing.assert_close(layer(regions), reference(regions, regions, regions)[0])


def test_order_of_regions_does_not_matter(layer) -> None:
    regions, words = inputs()
    order = torch.tensor([2, 0, 3, 1])
    permuted = layer(regions[:, order], REGIONS[:, order], words, WORDS)
    torch.testing.assert_close(permuted, layer(regions, REGIONS, words, WORDS)[:, order])


def test_words_are_not_updated(layer) -> None:
    regions, words = inputs()
    before = words.detach().clone()
    layer(regions, REGIONS, words, WORDS)
    assert torch.equal(words, before)
    assert layer(regions, REGIONS, words, WORDS).shape == regions.shape  # words are not returned


def test_indivisible_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the width 6, but is 8"):
        PrefixGuidedAttention(6)
