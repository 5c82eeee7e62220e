import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.interest import InterestAttention, smoothed_softmax
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask

B, C, H, D = 5, 3, 4, 4


def build(pair: str = "both", beta: float = 0.5) -> InterestAttention:
    torch.manual_seed(0)
    return InterestAttention(D, 6, pair=pair, beta=beta).double()


def slow(layer: InterestAttention, tokens: Tensor, mask: Tensor | None, query: Tensor) -> tuple[Tensor, Tensor]:
    fused, weights = torch.zeros(B, D).double(), torch.zeros(B, H).double()
    for b in range(B):
        there = [j for j in range(H) if mask is None or mask[b, j]]
        p, f = query[b], {}
        for j in there:
            q = tokens[b, j]
            seen = {"concat": [p, q], "prod": [p * q], "both": [p, q, p * q]}[layer.pair]
            f[j] = layer.logit.weight[0] @ torch.relu(layer.hidden.weight @ torch.cat(seen) + layer.hidden.bias)
        for j in there:
            weights[b, j] = share = torch.exp(f[j]) / sum(torch.exp(x) for x in f.values()) ** layer.beta
            fused[b] = fused[b] + share * tokens[b, j]
    return fused, weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize("pair", ["concat", "prod", "both"])
def test_equals_the_formula_in_loops(pair, beta, masked) -> None:
    layer, mask = build(pair, beta), random_mask(B, H) if masked else None
    tokens, query = random(B, H, D).requires_grad_(), random(B, D, seed=1).requires_grad_()
    fused, weights = layer(tokens, mask, query, return_weights=True)
    expected, expected_weights = slow(layer, tokens, mask, query)
    assert_same(fused, expected, layer, tokens, query)
    assert_same(weights, expected_weights, layer, tokens, query)
    torch.testing.assert_close(layer(tokens, mask, query), fused)


@pytest.mark.parametrize("pair", ["concat", "prod", "both"])
def test_all_pairs_equal_one_by_one(pair) -> None:
    layer, mask = build(pair), random_mask(B, H)
    tokens, queries = random(B, H, D), random(B, C, D, seed=1)
    whole = layer(tokens[:, None], mask[:, None], queries)
    for c in range(C):
        torch.testing.assert_close(whole[:, c], layer(tokens, mask, queries[:, c]))


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_values_under_the_mask_are_never_read(beta) -> None:
    layer, mask, query = build(beta=beta), random_mask(B, H), random(B, D, seed=1)
    assert_never_read(lambda x: layer(x, mask, query), random(B, H, D), mask, layer)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_a_target_under_the_mask_is_as_if_it_were_not_in_the_history(beta) -> None:
    layer, items, history = build(beta=beta), random(9, D), torch.tensor([[1, 5, 2, 7], [5, 3, 8, 0]])
    target = torch.tensor([5, 8])
    found = layer(items[history], history != target[:, None], items[target])
    without = layer(items[torch.tensor([[1, 2, 7], [5, 3, 0]])], None, items[target])
    torch.testing.assert_close(found, without)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_a_history_is_a_set_padding_is_nothing_and_empty_is_zeros(beta) -> None:
    layer, tokens, query = build(beta=beta), random(B, H, D), random(B, D, seed=1)
    fused, weights = layer(tokens, None, query, return_weights=True)
    order = torch.tensor([2, 0, 3, 1])
    turned, turned_weights = layer(tokens[:, order], None, query, return_weights=True)
    torch.testing.assert_close(turned, fused)
    torch.testing.assert_close(turned_weights, weights[:, order])
    padded, there = torch.cat([tokens, random(B, 2, D, seed=2)], 1), torch.arange(H + 2).expand(B, -1) < H
    torch.testing.assert_close(layer(padded, there, query), fused)
    for mask, none in ((torch.zeros(B, H, dtype=torch.bool), tokens), (None, tokens[:, :0])):
        assert torch.equal(layer(none, mask, query), torch.zeros(B, D).double())


def test_weights_sum_to_the_softmax_total_to_the_power_of_one_minus_beta() -> None:
    tokens, query, mask = random(B, H, D), random(B, D, seed=1), random_mask(B, H)
    assert build(beta=1.0)(tokens, mask, query, return_weights=True)[1].sum(1).tolist() == pytest.approx(
        mask.any(1).double().tolist()
    )
    for beta in (0.3, 0.5):
        layer = build(beta=beta)
        total = (layer.logits(tokens, query).exp() * mask).sum(1)
        weights = layer(tokens, mask, query, return_weights=True)[1]
        torch.testing.assert_close(weights.sum(1), torch.where(mask.any(1), total ** (1 - beta), 0.0))


def test_without_logits_it_is_the_mean_of_the_history() -> None:
    layer, tokens, query, mask = build(beta=1.0), random(B, H, D), random(B, D, seed=1), random_mask(B, H)
    layer.logit.weight.data.zero_()
    fused, weights = layer(tokens, mask, query, return_weights=True)
    for b in range(1, B):
        assert weights[b][mask[b]].tolist() == pytest.approx([1 / int(mask[b].sum())] * int(mask[b].sum()))
        torch.testing.assert_close(fused[b], tokens[b][mask[b]].mean(0))


def test_shapes() -> None:
    fused, weights = build()(random(B, H, D), None, random(B, D), return_weights=True)
    assert (fused.shape, weights.shape) == ((B, D), (B, H))


@pytest.mark.parametrize("beta", [0.5, 0.9, 1.0])
def test_weights_are_exact_where_a_plain_maximum_would_be_wrong_and_finite_everywhere(beta) -> None:
    logits = torch.tensor([[20.0, 25.0, -3.0], [-25.0, -20.0, -28.0]])
    exact = logits.double().exp() / logits.double().exp().sum(1, keepdim=True) ** beta
    torch.testing.assert_close(smoothed_softmax(logits, None, beta).double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(smoothed_softmax(logits, torch.ones(2, 3).bool(), beta).double(), exact, rtol=1e-5, atol=0)
    far = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    for mask in (None, torch.tensor([[True, True, False]]), torch.zeros(1, 3, dtype=torch.bool)):
        weights = smoothed_softmax(far, mask, beta)
        (slope,) = torch.autograd.grad(weights.square().sum(), far)
        assert bool(weights.isfinite().all())
        assert bool(slope.isfinite().all())


def test_a_case_by_hand() -> None:
    layer = InterestAttention(1, 1, pair="prod", beta=0.5)
    layer.hidden.weight.data, layer.hidden.bias.data = torch.tensor([[1.0]]), torch.tensor([0.0])
    layer.logit.weight.data = torch.tensor([[1.0]])
    ln2 = 0.6931472  # the logits of products ln 2, 0 and -1 are ln 2, 0 and 0: their exponentials 2, 1 and 1 sum to 4
    fused, weights = layer(torch.tensor([[[ln2], [0.0], [-1.0]]]), None, torch.ones(1, 1), return_weights=True)
    assert weights[0].tolist() == pytest.approx([1.0, 0.5, 0.5])
    assert fused.item() == pytest.approx(ln2 - 0.5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="interest attention needs a query"):
        build()(random(B, H, D))
    with pytest.raises(ValueError, match="pair must be 'concat', 'prod', 'both' or 'none', but is 'sum'"):
        InterestAttention(D, pair="sum")
    with pytest.raises(ValueError, match="beta must be greater than 0 and at most 1, but is 0"):
        InterestAttention(D, beta=0)
