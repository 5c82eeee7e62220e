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
                of_user = fusion.query.weight @ query[n]
                if fusion.logit is None:
                    scores[a] = of_user @ values[a]
                else:
                    scores[a] = fusion.logit.weight[0] @ F.relu(of_user + fusion.key.weight @ values[a] + fusion.query.bias)
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
    wanted = [tokens, query, *fusion.parameters()]
    factor = torch.randn(N, D, generator=torch.Generator().manual_seed(2)).double()
    found = torch.autograd.grad((fused * factor).sum(), wanted)
    for f, e in zip(found, torch.autograd.grad((expected * factor).sum(), wanted), strict=True):
        assert bool(f.any())
        torch.testing.assert_close(f, e)


def test_a_case_by_hand() -> None:
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
def test_weights_are_shares_of_the_attributes_that_apply(settings) -> None:
    tokens, query = inputs()
    fused, weights = build(**settings)(tokens, MASK, query, return_weights=True)
    assert (fused.shape, weights.shape) == ((N, D), (N, A))
    assert bool((weights >= 0).all())
    assert bool((weights[~MASK] == 0).all())
    torch.testing.assert_close(weights.sum(1), MASK.any(1).double())
    assert bool((fused[2] == 0).all())


@pytest.mark.parametrize("score", ["mlp", "bilinear"])
def test_equal_attributes_count_alike(score) -> None:
    fusion = build(score=score)
    tokens, query = inputs()
    same = tokens[:, :1].expand(N, A, DT)
    fused, weights = fusion(same, MASK, query, return_weights=True)
    there = MASK.any(1)
    torch.testing.assert_close(weights[there], (MASK / MASK.sum(1, keepdim=True))[there].double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(fused[there], fusion.values(same)[there, 0])


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_who_looks_decides_unless_the_users_matrix_is_zero(settings) -> None:
    fusion = build(**settings)
    tokens, query = inputs()
    same = tokens[:1].expand(N, A, DT)
    weights = fusion(same, None, query, return_weights=True)[1]
    assert bool(((weights[1:] - weights[:1]).abs().amax(1) > 1e-4).all())
    torch.nn.init.zeros_(fusion.query.weight)
    weights = fusion(same, None, query, return_weights=True)[1]
    torch.testing.assert_close(weights, weights[:1].expand(N, A))


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_features_of_attributes_that_do_not_apply_change_nothing(settings) -> None:
    tokens, query = inputs()
    results = []
    for hidden in (0.0, torch.nan):
        fusion = build(**settings)
        x = tokens.masked_fill(~MASK.unsqueeze(-1), hidden).requires_grad_()
        fused = fusion(x, MASK, query)
        fused.square().sum().backward()
        results.append([fused.detach(), x.grad, *(p.grad for p in fusion.parameters())])
    for calm, wild in zip(*results, strict=True):
        assert torch.equal(calm, wild)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_the_order_of_attributes_matters_where_each_has_a_vector_of_its_own(settings) -> None:
    fusion = build(**settings)
    tokens, query = inputs()
    order = torch.tensor([2, 0, 3, 1])
    before, weights = fusion(tokens, MASK, query, return_weights=True)
    after, moved = fusion(tokens[:, order], MASK[:, order], query, return_weights=True)
    alike = "num_tokens" not in settings
    assert torch.allclose(after, before) == torch.allclose(moved, weights[:, order]) == alike


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_axes_that_are_broadcast_are_all_pairs_also_from_stored_values(settings) -> None:
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


def test_the_strongest_attributes_apply_fall_in_weight_and_match_the_forward_pass() -> None:
    tokens, query = inputs()
    weights = build()(tokens, MASK, query, return_weights=True)[1].detach()
    found, shares = strongest(weights, MASK, 3)
    for n in range(N):
        order = sorted((a for a in range(A) if MASK[n, a]), key=lambda a, n=n: -float(weights[n, a]))[:3]
        assert found[n].tolist() == order + [-1] * (3 - len(order))
        assert shares[n].tolist() == [float(weights[n, a]) for a in order] + [0.0] * (3 - len(order))
    assert strongest(torch.tensor([0.1, 0.7, 0.2]), None, 2)[0].tolist() == [1, 2]


@pytest.mark.parametrize("score", ["mlp", "bilinear", "mean"])
@pytest.mark.parametrize("cells", [1, 2**22])
def test_scores_are_inner_products_with_what_is_seen(score, cells, monkeypatch) -> None:
    monkeypatch.setattr("gmmrec.nn.fusion.attribute.CELLS", cells)
    torch.manual_seed(0)
    fusion = AttributeFusion(D, token_dim=DT, score=score, num_tokens=A, hidden=5).double()
    tokens, query = inputs()[0], torch.randn(3, D, requires_grad=True, dtype=torch.double)
    values = fusion.values(tokens)
    expected = (fusion(tokens, MASK, query[:, None]) * query[:, None]).sum(-1)
    rows = torch.tensor([[4, 2], [0, 0], [1, 3]])
    for found, right in (
        (fusion.score(query, values, MASK), expected),
        (fusion.score_rows(query, values, MASK, torch.tensor([3, 1])), expected[:, [3, 1]]),
        (fusion.score_rows(query, values, MASK, rows), expected.gather(1, rows)),
    ):
        torch.testing.assert_close(found, right)
        wanted = [query, *fusion.parameters()]
        if score == "mean":
            assert fusion.query is None
        slopes = [torch.autograd.grad(x.square().sum(), wanted, retain_graph=True) for x in (found, right)]
        for f, e in zip(*slopes, strict=True):
            torch.testing.assert_close(f, e)
    with torch.no_grad():
        torch.testing.assert_close(fusion.score(query, values, MASK), expected)


def test_slots_equal_their_formula_and_no_region_gives_zeros() -> None:
    torch.manual_seed(0)
    pooling = SlotPooling(D, 2, DT).double()
    regions, _ = inputs()
    slots, weights = pooling(regions.masked_fill(~MASK.unsqueeze(-1), torch.nan), MASK, return_weights=True)
    assert (slots.shape, weights.shape) == ((N, 2, D), (N, 2, A))
    for n in range(N):
        there = [r for r in range(A) if MASK[n, r]]
        for a in range(2):
            chances = [torch.exp(pooling.slots[a] @ (pooling.key.weight @ regions[n, r]) / math.sqrt(D)) for r in there]
            shares = [c / sum(chances) for c in chances]
            expected = sum(
                (s * (pooling.value.weight @ regions[n, r]) for s, r in zip(shares, there, strict=True)), torch.zeros(D).double()
            )
            torch.testing.assert_close(slots[n, a], expected)
            if there:
                torch.testing.assert_close(weights[n, a, there], torch.stack(shares))
    assert bool((weights.transpose(1, 2)[~MASK] == 0).all())
    torch.testing.assert_close(pooling(regions), pooling(regions, torch.ones(N, A).bool()))


def test_weights_of_slots_and_attributes_multiply_to_weights_of_regions() -> None:
    torch.manual_seed(0)
    pooling, fusion = SlotPooling(D, 3, DT).double(), AttributeFusion(D, DQ, num_tokens=3).double()
    regions, query = inputs()
    slots, of_regions = pooling(regions, MASK, return_weights=True)
    there = MASK.any(1, keepdim=True).expand(N, 3)
    weights = fusion(slots, there, query, return_weights=True)[1]
    explained = (weights.unsqueeze(1) @ of_regions).squeeze(1)
    assert bool((explained[~MASK] == 0).all())
    torch.testing.assert_close(explained.sum(1), MASK.any(1).double())


def test_an_unknown_score_and_a_missing_query_are_refused() -> None:
    with pytest.raises(ValueError, match="score must be 'mlp', 'bilinear' or 'mean', but is 'dot'"):
        AttributeFusion(D, score="dot")
    with pytest.raises(ValueError, match="attribute fusion needs a query"):
        AttributeFusion(D)(torch.zeros(1, A, D))
