import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.correlation import CorrelationAwareFusion
from tests.nn.fusion.checks import assert_never_read, assert_same, layer_norm, random, random_mask, softmax

B, T, V, D, HIDDEN = 3, 4, 5, 6, 7
WORDS, REGIONS = random_mask(B, T), random_mask(B, V, seed=3)
WORDS[0, 1] = True  # the first sample has words, but no regions


def build(**options) -> CorrelationAwareFusion:
    torch.manual_seed(0)
    return CorrelationAwareFusion(D, HIDDEN, **options).double()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return random(B, T, D).requires_grad_(), random(B, V, D, seed=1).requires_grad_(), random(B, T, D, seed=2).requires_grad_()


def slow(layer: CorrelationAwareFusion, words: Tensor, regions: Tensor, query: Tensor, masks) -> tuple[Tensor, Tensor]:
    out, weights = torch.zeros(B, T, D).double(), torch.zeros(B, T, V).double()
    act = F.gelu if isinstance(layer.activation, torch.nn.GELU) else F.relu
    for b in range(B):
        present = [j for j in range(V) if masks[1][b, j]]
        for i in range(T):
            if not masks[0][b, i]:
                continue
            gathered = torch.zeros(D).double()
            for j, weight in zip(present, softmax([layer.scale * (query[b, i] @ regions[b, j]) for j in present]), strict=True):
                weights[b, i, j] = weight
                gathered = gathered + weight * regions[b, j]
            hidden = act(layer.own.weight @ words[b, i] + layer.own.bias + layer.gathered.weight @ gathered)
            update = layer.output.weight @ hidden + layer.output.bias
            out[b, i] = update if layer.norm is None else layer_norm(words[b, i] + update, layer.norm)
    return out, weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"activation": "relu", "norm": False, "scale": 0.3}], ids=["gelu", "relu"])
@pytest.mark.parametrize("default_query", [True, False])
def test_equals_the_formula_in_loops(options, default_query, masked) -> None:
    layer, (words, regions, query) = build(**options), inputs()
    masks = (WORDS, REGIONS) if masked else (None, None)
    full = (WORDS, REGIONS) if masked else (torch.ones_like(WORDS), torch.ones_like(REGIONS))
    expected, expected_weights = slow(layer, words, regions, words if default_query else query, full)
    actual, weights = layer(words, masks[0], regions, masks[1], None if default_query else query, return_weights=True)
    assert_same(actual, expected, layer, words, regions, query)
    assert_same(weights, expected_weights, layer, words, regions, query)
    torch.testing.assert_close(layer(words, masks[0], regions, masks[1], None if default_query else query), actual)


def test_masked_values_are_never_read() -> None:
    layer, (words, regions, query) = build(), inputs()
    assert_never_read(lambda x: layer(x, WORDS, regions, REGIONS), words, WORDS, layer)
    assert_never_read(lambda x: layer(words, WORDS, x, REGIONS), regions, REGIONS, layer)
    assert_never_read(lambda x: layer(words, WORDS, regions, REGIONS, x), query, WORDS, layer)


def test_shapes() -> None:
    words, regions, _ = inputs()
    fused, weights = build()(words, None, regions, return_weights=True)
    assert (fused.shape, weights.shape) == ((B, T, D), (B, T, V))


def test_rows_sum_to_one_and_missing_tokens_have_weight_zero() -> None:
    layer, (words, regions, _) = build(), inputs()
    fused, weights = layer(words, WORDS, regions, REGIONS, return_weights=True)
    torch.testing.assert_close(weights.sum(-1), (WORDS & REGIONS.any(1, keepdim=True)).double())
    assert bool((weights * ~REGIONS[:, None] == 0).all())
    wide = layer(
        F.pad(words, (0, 0, 0, 1), value=5.0), F.pad(WORDS, (0, 1)), F.pad(regions, (0, 0, 0, 2), value=5.0), F.pad(REGIONS, (0, 2))
    )
    torch.testing.assert_close(wide[:, :T], fused)


def test_without_regions_it_is_the_feed_forward_block() -> None:
    layer, (words, regions, _) = build(), inputs()
    plain = layer.norm(words + layer.output(F.gelu(layer.own(words))))
    no_regions = layer(words, None, regions, torch.zeros_like(REGIONS))
    torch.testing.assert_close(no_regions, plain)
    assert not torch.allclose(layer(words, None, regions), plain)
    layer.gathered.weight.data.zero_()
    torch.testing.assert_close(layer(words, None, regions), plain)


def test_equal_regions_are_gathered_unchanged() -> None:
    layer, (words, regions, _) = build(), inputs()
    one = regions[:, :1]
    expected = layer.norm(words + layer.output(F.gelu(layer.own(words) + layer.gathered(one))))
    torch.testing.assert_close(layer(words, None, one.expand(B, V, D)), expected)


def test_order_of_regions_does_not_matter() -> None:
    layer, (words, regions, _) = build(), inputs()
    order = torch.tensor([4, 2, 0, 3, 1])
    fused, weights = layer(words, WORDS, regions, REGIONS, return_weights=True)
    permuted, permuted_weights = layer(words, WORDS, regions[:, order], REGIONS[:, order], return_weights=True)
    torch.testing.assert_close(permuted, fused)
    torch.testing.assert_close(permuted_weights, weights[..., order])


def test_hand_computed_example() -> None:
    layer = CorrelationAwareFusion(1, 1, activation="relu", norm=False)
    for part, value in ((layer.own, 1.0), (layer.gathered, 10.0), (layer.output, 2.0)):
        part.weight.data.fill_(value)
    layer.own.bias.data.fill_(0.5)
    layer.output.bias.data.fill_(-1.0)
    fused, weights = layer(torch.tensor([[[1.0986123]]]), None, torch.tensor([[[0.0], [1.0]]]), return_weights=True)
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75])  # from exp(0) and exp(ln 3)
    assert fused.item() == pytest.approx(2 * (1.0986123 + 0.5 + 7.5) - 1)


def test_unknown_activation_is_rejected() -> None:
    with pytest.raises(ValueError, match="activation must be 'gelu' or 'relu', but is 'tanh'"):
        CorrelationAwareFusion(D, activation="tanh")
