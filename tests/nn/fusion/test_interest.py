import math

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
        present = [j for j in range(H) if mask is None or mask[b, j]]
        p, f = query[b], {}
        for j in present:
            q = tokens[b, j]
            parts = {"concat": [p, q], "prod": [p * q], "both": [p, q, p * q]}[layer.pair]
            f[j] = layer.logit.weight[0] @ torch.relu(layer.hidden.weight @ torch.cat(parts) + layer.hidden.bias)
        for j in present:
            weights[b, j] = weight = torch.exp(f[j]) / sum(torch.exp(x) for x in f.values()) ** layer.beta
            fused[b] = fused[b] + weight * tokens[b, j]
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
def test_all_pairs_equal_single_pairs(pair) -> None:
    layer, mask = build(pair), random_mask(B, H)
    tokens, queries = random(B, H, D), random(B, C, D, seed=1)
    all_pairs = layer(tokens[:, None], mask[:, None], queries)
    for c in range(C):
        torch.testing.assert_close(all_pairs[:, c], layer(tokens, mask, queries[:, c]))


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_masked_values_are_never_read(beta) -> None:
    layer, mask, query = build(beta=beta), random_mask(B, H), random(B, D, seed=1)
    assert_never_read(lambda x: layer(x, mask, query), random(B, H, D), mask, layer)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_masking_the_target_equals_removing_it_from_the_history(beta) -> None:
    layer, items, history = build(beta=beta), random(9, D), torch.tensor([[1, 5, 2, 7], [5, 3, 8, 0]])
    target = torch.tensor([5, 8])
    masked = layer(items[history], history != target[:, None], items[target])
    removed = layer(items[torch.tensor([[1, 2, 7], [5, 3, 0]])], None, items[target])
    torch.testing.assert_close(masked, removed)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_history_order_and_padding_do_not_matter_and_empty_history_gives_zeros(beta) -> None:
    layer, tokens, query = build(beta=beta), random(B, H, D), random(B, D, seed=1)
    fused, weights = layer(tokens, None, query, return_weights=True)
    order = torch.tensor([2, 0, 3, 1])
    permuted, permuted_weights = layer(tokens[:, order], None, query, return_weights=True)
    torch.testing.assert_close(permuted, fused)
    torch.testing.assert_close(permuted_weights, weights[:, order])
    padded, present = torch.cat([tokens, random(B, 2, D, seed=2)], 1), torch.arange(H + 2).expand(B, -1) < H
    torch.testing.assert_close(layer(padded, present, query), fused)
    for mask, empty in ((torch.zeros(B, H, dtype=torch.bool), tokens), (None, tokens[:, :0])):
        assert torch.equal(layer(empty, mask, query), torch.zeros(B, D).double())


def test_weights_sum_to_the_power_one_minus_beta_of_the_exponentials() -> None:
    tokens, query, mask = random(B, H, D), random(B, D, seed=1), random_mask(B, H)
    assert build(beta=1.0)(tokens, mask, query, return_weights=True)[1].sum(1).tolist() == pytest.approx(
        mask.any(1).double().tolist()
    )
    for beta in (0.3, 0.5):
        layer = build(beta=beta)
        total = (layer.logits(tokens, query).exp() * mask).sum(1)
        weights = layer(tokens, mask, query, return_weights=True)[1]
        torch.testing.assert_close(weights.sum(1), torch.where(mask.any(1), total ** (1 - beta), 0.0))


def test_zero_logits_give_the_mean_of_the_history() -> None:
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
def test_weights_are_exact_within_the_limits_and_finite_everywhere(beta) -> None:
    logits = torch.tensor([[20.0, 25.0, -3.0], [-25.0, -20.0, -28.0]])
    exact = logits.double().exp() / logits.double().exp().sum(1, keepdim=True) ** beta
    torch.testing.assert_close(smoothed_softmax(logits, None, beta).double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(smoothed_softmax(logits, torch.ones(2, 3).bool(), beta).double(), exact, rtol=1e-5, atol=0)
    far = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    for mask in (None, torch.tensor([[True, True, False]]), torch.zeros(1, 3, dtype=torch.bool)):
        weights = smoothed_softmax(far, mask, beta)
        (gradient,) = torch.autograd.grad(weights.square().sum(), far)
        assert bool(weights.isfinite().all())
        assert bool(gradient.isfinite().all())


def identity(beta: float) -> InterestAttention:
    """Attention whose logit is the product of two numbers, where it is positive."""
    layer = InterestAttention(1, 1, pair="prod", beta=beta)
    layer.hidden.weight.data, layer.hidden.bias.data = torch.tensor([[1.0]]), torch.tensor([0.0])
    layer.logit.weight.data = torch.tensor([[1.0]])
    return layer.double()


def test_logits_beyond_30_count_as_30() -> None:
    layer, history = identity(0.5), torch.tensor([[500.0], [2.0]], dtype=torch.double)
    target = torch.ones(1, 1, dtype=torch.double)
    assert layer.logits(history[None], target).tolist() == [[30.0, 2.0]]
    layer.logit.weight.data.neg_()
    assert layer.logits(history[None], target).tolist() == [[-30.0, -2.0]]
    layer.logit.weight.data.neg_()
    exponentials = [math.exp(30), math.exp(2)]
    weights = [x / sum(exponentials) ** 0.5 for x in exponentials]
    assert layer(history[None], None, target, return_weights=True)[1][0].tolist() == pytest.approx(weights, rel=1e-12)
    assert smoothed_softmax(history.T, None, 0.5)[0].tolist() == pytest.approx(weights, rel=1e-12)
    assert smoothed_softmax(history.T, torch.ones(1, 2) > 0, 0.5)[0].tolist() == pytest.approx(weights, rel=1e-12)
    total = 500 * weights[0] + 2 * weights[1]
    arguments = {"index": torch.arange(2), "indptr": torch.tensor([0, 2]), "token_ids": torch.arange(2)}
    shared = layer.score(target, history, query_ids=torch.tensor([9]), **arguments)
    separate = layer.score(target[None], history, query_ids=torch.tensor([[9]]), **arguments)
    assert shared.item() == pytest.approx(total, rel=1e-12)
    assert separate.item() == pytest.approx(total, rel=1e-12)


def test_hand_computed_example() -> None:
    layer = InterestAttention(1, 1, pair="prod", beta=0.5)
    layer.hidden.weight.data, layer.hidden.bias.data = torch.tensor([[1.0]]), torch.tensor([0.0])
    layer.logit.weight.data = torch.tensor([[1.0]])
    ln2 = 0.6931472  # the logits of products ln 2, 0 and -1 are ln 2, 0 and 0: their exponentials 2, 1 and 1 sum to 4
    fused, weights = layer(torch.tensor([[[ln2], [0.0], [-1.0]]]), None, torch.ones(1, 1), return_weights=True)
    assert weights[0].tolist() == pytest.approx([1.0, 0.5, 0.5])
    assert fused.item() == pytest.approx(ln2 - 0.5)


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="interest attention needs a query"):
        build()(random(B, H, D))
    with pytest.raises(ValueError, match="pair must be 'concat', 'prod', 'both' or 'none', but is 'sum'"):
        InterestAttention(D, pair="sum")
    with pytest.raises(ValueError, match="beta must be greater than 0 and at most 1, but is 0"):
        InterestAttention(D, beta=0)
