import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.attribute import AttributeFusion, SlotPooling, strongest

N, A, D, DT, DQ = 5, 4, 6, 3, 2
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 1]]).bool()
FORMS = [{}, {"score": "bilinear"}, {"num_tokens": A}, {"hidden": 8, "num_tokens": A}]


def build(**settings) -> AttributeFusion:
    torch.manual_seed(0)
    return AttributeFusion(D, DQ, token_dim=DT, **settings).double()


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, A, DT, generator=generator).double(), torch.randn(N, DQ, generator=generator).double()


def slow(fusion: AttributeFusion, tokens: Tensor, query: Tensor) -> tuple[Tensor, list[dict[int, float]]]:
    fused, weights = [], []
    for n in range(N):
        values, scores = {}, {}
        for a in range(A):
            if MASK[n, a]:
                values[a] = fusion.value.weight @ tokens[n, a] + fusion.value.bias
                if fusion.attributes is not None:
                    values[a] = values[a] + fusion.attributes[a]
                user_part = fusion.query.weight @ query[n]
                if fusion.logit is None:
                    scores[a] = user_part @ values[a]
                else:
                    scores[a] = fusion.logit.weight[0] @ F.relu(user_part + fusion.key.weight @ values[a] + fusion.query.bias)
        total = sum(torch.exp(s) for s in scores.values())
        shares = {a: torch.exp(s) / total for a, s in scores.items()}
        fused.append(sum((share * values[a] for a, share in shares.items()), torch.zeros(D).double()))
        weights.append({a: float(share.detach()) for a, share in shares.items()})
    return torch.stack(fused), weights


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_equals_the_formula_in_values_and_gradients(settings) -> None:
    fusion = build(**settings)
    tokens, query = (t.requires_grad_() for t in inputs())
    fused, weights = fusion(tokens, MASK, query, return_weights=True)
    expected, shares = slow(fusion, tokens, query)
    torch.testing.assert_close(fused, expected)
    for n in range(N):
        assert weights[n].tolist() == pytest.approx([shares[n].get(a, 0.0) for a in range(A)])
    leaves = [tokens, query, *fusion.parameters()]
    factor = torch.randn(N, D, generator=torch.Generator().manual_seed(2)).double()
    actual = torch.autograd.grad((fused * factor).sum(), leaves)
    for gradient, expected_gradient in zip(actual, torch.autograd.grad((expected * factor).sum(), leaves), strict=True):
        assert bool(gradient.any())
        torch.testing.assert_close(gradient, expected_gradient)


def test_hand_computed_example() -> None:
    fusion = AttributeFusion(1)
    for layer, weight in ((fusion.value, 2.0), (fusion.query, 1.0), (fusion.key, 1.0), (fusion.logit, 0.5)):
        torch.nn.init.constant_(layer.weight, weight)
    torch.nn.init.constant_(fusion.value.bias, 1.0)
    torch.nn.init.constant_(fusion.query.bias, -2.0)
    fused, weights = fusion(
        torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[True, True, False]]), torch.zeros(1, 1), return_weights=True
    )
    share = 1 / (1 + math.exp(0.5))  # values 1 and 3, before the ReLU -1 and 1, logits 0 and 0.5
    assert weights.flatten().tolist() == pytest.approx([share, 1 - share, 0])
    assert fused.item() == pytest.approx(share + 3 * (1 - share))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_sum_to_one_over_present_attributes(settings) -> None:
    tokens, query = inputs()
    fused, weights = build(**settings)(tokens, MASK, query, return_weights=True)
    assert (fused.shape, weights.shape) == ((N, D), (N, A))
    assert bool((weights >= 0).all())
    assert bool((weights[~MASK] == 0).all())
    torch.testing.assert_close(weights.sum(1), MASK.any(1).double())
    assert bool((fused[2] == 0).all())


@pytest.mark.parametrize("score", ["mlp", "bilinear"])
def test_equal_attributes_have_equal_weights(score) -> None:
    fusion = build(score=score)
    tokens, query = inputs()
    same = tokens[:, :1].expand(N, A, DT)
    fused, weights = fusion(same, MASK, query, return_weights=True)
    present = MASK.any(1)
    torch.testing.assert_close(weights[present], (MASK / MASK.sum(1, keepdim=True))[present].double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(fused[present], fusion.values(same)[present, 0])


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_weights_depend_on_the_user_unless_its_matrix_is_zero(settings) -> None:
    fusion = build(**settings)
    tokens, query = inputs()
    same = tokens[:1].expand(N, A, DT)
    weights = fusion(same, None, query, return_weights=True)[1]
    assert bool(((weights[1:] - weights[:1]).abs().amax(1) > 1e-4).all())
    torch.nn.init.zeros_(fusion.query.weight)
    weights = fusion(same, None, query, return_weights=True)[1]
    torch.testing.assert_close(weights, weights[:1].expand(N, A))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_masked_attributes_are_never_read(settings) -> None:
    tokens, query = inputs()
    results = []
    for hidden in (0.0, torch.nan):
        fusion = build(**settings)
        x = tokens.masked_fill(~MASK.unsqueeze(-1), hidden).requires_grad_()
        fused = fusion(x, MASK, query)
        fused.square().sum().backward()
        results.append([fused.detach(), x.grad, *(p.grad for p in fusion.parameters())])
    for with_zeros, with_nan in zip(*results, strict=True):
        assert torch.equal(with_zeros, with_nan)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_order_of_attributes_matters_only_with_attribute_embeddings(settings) -> None:
    fusion = build(**settings)
    tokens, query = inputs()
    order = torch.tensor([2, 0, 3, 1])
    before, weights = fusion(tokens, MASK, query, return_weights=True)
    after, permuted = fusion(tokens[:, order], MASK[:, order], query, return_weights=True)
    is_invariant = "num_tokens" not in settings
    assert torch.allclose(after, before) == torch.allclose(permuted, weights[:, order]) == is_invariant


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_broadcast_axes_give_all_pairs_also_with_precomputed_values(settings) -> None:
    fusion = build(**settings)
    tokens, query = inputs()
    users = query[:3]
    fused, weights = fusion(tokens, MASK, users[:, None], return_weights=True)
    assert (fused.shape, weights.shape) == ((3, N, D), (3, N, A))
    for b in range(3):
        expected, shares = fusion(tokens, MASK, users[b : b + 1].expand(N, DQ), return_weights=True)
        torch.testing.assert_close(fused[b], expected)
        torch.testing.assert_close(weights[b], shares)
    torch.testing.assert_close(fusion.weights(users[:, None], fusion.values(tokens), MASK), weights)


def test_strongest_attributes_are_present_and_sorted_and_match_the_forward_pass() -> None:
    tokens, query = inputs()
    weights = build()(tokens, MASK, query, return_weights=True)[1].detach()
    actual, shares = strongest(weights, MASK, 3)
    for n in range(N):
        order = sorted((a for a in range(A) if MASK[n, a]), key=lambda a, n=n: -float(weights[n, a]))[:3]
        assert actual[n].tolist() == order + [-1] * (3 - len(order))
        assert shares[n].tolist() == [float(weights[n, a]) for a in order] + [0.0] * (3 - len(order))
    assert strongest(torch.tensor([0.1, 0.7, 0.2]), None, 2)[0].tolist() == [1, 2]


@pytest.mark.parametrize("score", ["mlp", "bilinear", "mean"])
@pytest.mark.parametrize("cells", [1, 2**22])
def test_scores_are_inner_products_with_fused_items(score, cells, monkeypatch) -> None:
    monkeypatch.setattr("gmmrec.nn.fusion.attribute.CELLS", cells)
    torch.manual_seed(0)
    fusion = AttributeFusion(D, token_dim=DT, score=score, num_tokens=A, hidden=5).double()
    tokens, query = inputs()[0], torch.randn(3, D, requires_grad=True, dtype=torch.double)
    values = fusion.values(tokens)
    expected = (fusion(tokens, MASK, query[:, None]) * query[:, None]).sum(-1)
    rows = torch.tensor([[4, 2], [0, 0], [1, 3]])
    for actual, reference in (
        (fusion.score(query, values, MASK), expected),
        (fusion.score_rows(query, values, MASK, torch.tensor([3, 1])), expected[:, [3, 1]]),
        (fusion.score_rows(query, values, MASK, rows), expected.gather(1, rows)),
    ):
        torch.testing.assert_close(actual, reference)
        leaves = [query, *fusion.parameters()]
        if score == "mean":
            assert fusion.query is None
        gradients = [torch.autograd.grad(x.square().sum(), leaves, retain_graph=True) for x in (actual, reference)]
        for gradient, expected_gradient in zip(*gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient)
    with torch.no_grad():
        torch.testing.assert_close(fusion.score(query, values, MASK), expected)


def test_slots_equal_the_formula_and_are_zeros_without_regions() -> None:
    torch.manual_seed(0)
    pooling = SlotPooling(D, 2, DT).double()
    regions, _ = inputs()
    slots, weights = pooling(regions.masked_fill(~MASK.unsqueeze(-1), torch.nan), MASK, return_weights=True)
    assert (slots.shape, weights.shape) == ((N, 2, D), (N, 2, A))
    for n in range(N):
        present = [r for r in range(A) if MASK[n, r]]
        for a in range(2):
            powers = [torch.exp(pooling.slots[a] @ (pooling.key.weight @ regions[n, r]) / math.sqrt(D)) for r in present]
            shares = [c / sum(powers) for c in powers]
            expected = sum(
                (s * (pooling.value.weight @ regions[n, r]) for s, r in zip(shares, present, strict=True)), torch.zeros(D).double()
            )
            torch.testing.assert_close(slots[n, a], expected)
            if present:
                torch.testing.assert_close(weights[n, a, present], torch.stack(shares))
    assert bool((weights.transpose(1, 2)[~MASK] == 0).all())
    torch.testing.assert_close(pooling(regions), pooling(regions, torch.ones(N, A).bool()))


def test_product_of_slot_and_attribute_weights_gives_region_weights() -> None:
    torch.manual_seed(0)
    pooling, fusion = SlotPooling(D, 3, DT).double(), AttributeFusion(D, DQ, num_tokens=3).double()
    regions, query = inputs()
    slots, region_weights = pooling(regions, MASK, return_weights=True)
    present = MASK.any(1, keepdim=True).expand(N, 3)
    weights = fusion(slots, present, query, return_weights=True)[1]
    explanation = (weights.unsqueeze(1) @ region_weights).squeeze(1)
    assert bool((explanation[~MASK] == 0).all())
    torch.testing.assert_close(explanation.sum(1), MASK.any(1).double())


def test_unknown_score_and_missing_query_are_rejected() -> None:
    with pytest.raises(ValueError, match="score must be 'mlp', 'bilinear' or 'mean', but is 'dot'"):
        AttributeFusion(D, score="dot")
    with pytest.raises(ValueError, match="attribute fusion needs a query"):
        AttributeFusion(D)(torch.zeros(1, A, D))
