import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.region import ContextGate, RegionFusion, VisualMerge

N, R, D, DQ = 5, 4, 6, 3
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 1]]).bool()
SCORES = ["product", "sum"]


def build(score: str = "product") -> RegionFusion:
    torch.manual_seed(0)
    fusion = RegionFusion(D, DQ, hidden=10, score=score).double()
    if score == "sum":  # the user only matters if the ReLU passes some regions of an image and not others
        torch.nn.init.normal_(fusion.key.weight)
    return fusion


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, R, D, generator=generator).double(), torch.randn(N, DQ, generator=generator).double()


def slow(fusion: RegionFusion, regions: Tensor, query: Tensor, mask: Tensor) -> tuple[Tensor, list[dict[int, float]]]:
    fused, weights = [], []
    for n in range(len(regions)):
        scores = {}
        for r in range(R):
            if mask[n, r]:
                user_part, region_part = fusion.query.weight @ query[n], fusion.key.weight @ regions[n, r]
                if fusion.logit is not None:
                    scores[r] = fusion.logit.weight[0] @ F.relu(user_part * region_part)
                else:
                    scores[r] = F.relu(user_part + region_part + fusion.query.bias)[0]
        total = sum(torch.exp(s) for s in scores.values())
        shares = {r: torch.exp(s) / total for r, s in scores.items()}
        fused.append(sum((a * regions[n, r] for r, a in shares.items()), torch.zeros(D).double()))
        weights.append({r: float(a.detach()) for r, a in shares.items()})
    return torch.stack(fused), weights


@pytest.mark.parametrize("score", SCORES)
def test_equals_the_formula_in_values_and_gradients(score) -> None:
    fusion = build(score)
    regions, query = (t.requires_grad_() for t in inputs())
    fused, weights = fusion(regions, MASK, query, return_weights=True)
    expected, shares = slow(fusion, regions, query, MASK)
    torch.testing.assert_close(fused, expected)
    for n in range(N):
        assert weights[n].tolist() == pytest.approx([shares[n].get(r, 0.0) for r in range(R)])
    leaves = [regions, query, *fusion.parameters()]
    factor = torch.randn(N, D, generator=torch.Generator().manual_seed(2)).double()
    gradients = torch.autograd.grad((fused * factor).sum(), leaves)
    for gradient, reference in zip(gradients, torch.autograd.grad((expected * factor).sum(), leaves), strict=True):
        assert bool(gradient.any())
        torch.testing.assert_close(gradient, reference)


def test_hand_computed_example() -> None:
    fusion = RegionFusion(1, hidden=2)
    fusion.query.weight.data = torch.tensor([[1.0], [-1.0]])
    fusion.key.weight.data = torch.tensor([[1.0], [1.0]])
    fusion.logit.weight.data = torch.tensor([[0.5, 3.0]])
    fused, weights = fusion(torch.tensor([[[1.0], [3.0]]]), None, torch.tensor([[2.0]]), return_weights=True)
    first, second = math.exp(0.5 * 2), math.exp(0.5 * 6)  # the other unit is inactive: -2 and -6
    assert weights.flatten().tolist() == pytest.approx([first / (first + second), second / (first + second)])
    assert fused.item() == pytest.approx((first + 3 * second) / (first + second))


@pytest.mark.parametrize("score", SCORES)
def test_weights_sum_to_one_and_are_uniform_for_equal_regions(score) -> None:
    fusion = build(score)
    regions, query = inputs()
    weights = fusion(regions, MASK, query, return_weights=True)[1]
    assert weights.shape == (N, R)
    assert bool((weights >= 0).all())
    assert bool((weights[~MASK] == 0).all())
    torch.testing.assert_close(weights.sum(1), MASK.any(1).double())
    assert weights.unflatten(-1, (2, 2)).shape == (N, 2, 2)
    fused, weights = fusion(regions[:, :1].expand(N, R, D), None, query, return_weights=True)
    torch.testing.assert_close(weights, torch.full((N, R), 1 / R).double())
    torch.testing.assert_close(fused, regions[:, 0])


def test_weights_depend_on_the_user_unless_its_matrix_is_zero() -> None:
    fusion = build()
    regions, query = inputs()
    same = regions[:1].expand(N, R, D)
    weights = fusion(same, None, query, return_weights=True)[1]
    assert bool(((weights[1:] - weights[:1]).abs().amax(1) > 1e-4).all())
    torch.nn.init.zeros_(fusion.query.weight)
    weights = fusion(same, None, query, return_weights=True)[1]
    torch.testing.assert_close(weights, torch.full((N, R), 1 / R).double())


@pytest.mark.parametrize("score", SCORES)
def test_permuting_regions_permutes_weights_but_not_the_result(score) -> None:
    fusion = build(score)
    regions, query = inputs()
    order = torch.tensor([2, 0, 3, 1])
    before, weights = fusion(regions, MASK, query, return_weights=True)
    after, permuted = fusion(regions[:, order], MASK[:, order], query, return_weights=True)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(permuted, weights[:, order])


@pytest.mark.parametrize("score", SCORES)
def test_missing_regions_change_nothing(score) -> None:
    fusion = build(score)
    regions, query = inputs()
    padded = torch.cat([regions.masked_fill(~MASK.unsqueeze(-1), torch.nan), torch.full((N, 2, D), torch.inf).double()], dim=1)
    mask = torch.cat([MASK, torch.zeros(N, 2).bool()], dim=1)
    fused, weights = fusion(padded, mask, query, return_weights=True)
    expected, shares = fusion(regions, MASK, query, return_weights=True)
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(weights[:, :R], shares)
    assert bool((fused[2] == 0).all())


@pytest.mark.parametrize("score", SCORES)
def test_broadcast_axes_give_all_pairs_also_with_precomputed_keys(score) -> None:
    fusion = build(score)
    regions, query = inputs()
    users = query[:3]
    fused, weights = fusion(regions, MASK, users[:, None], return_weights=True)
    assert (fused.shape, weights.shape) == ((3, N, D), (3, N, R))
    for b in range(3):
        expected, shares = fusion(regions, MASK, users[b : b + 1].expand(N, DQ), return_weights=True)
        torch.testing.assert_close(fused[b], expected)
        torch.testing.assert_close(weights[b], shares)
    torch.testing.assert_close(fusion.weights(users[:, None], fusion.keys(regions), MASK), weights)


def test_product_with_zero_item_is_zero() -> None:
    torch.manual_seed(0)
    merge = VisualMerge(3, D).double()
    ids, image = torch.randn(4, 3).double(), torch.randn(4, D).double()
    ids[1] = 0
    merged = merge(ids, image)
    assert bool((merged[1] == 0).all())
    assert bool((merged[[0, 2, 3]] != 0).all())


@pytest.mark.parametrize(("mode", "scale"), [("mul", 0.01), ("add", 0.5), ("concat", 0.5), ("mul", 1.0), ("add", 0.2)])
def test_merges_equal_the_formulas(mode, scale) -> None:
    torch.manual_seed(0)
    given_scale = None if scale in (0.01, 0.5) else scale
    merge = VisualMerge(3, D, mode, scale=given_scale, concat_dim=2 if mode == "concat" else None).double()
    ids, image = torch.randn(4, 3).double(), torch.randn(4, D).double()
    present = torch.tensor([True, True, False, True])
    merged = merge(ids, image.masked_fill(~present[:, None], torch.nan), present)
    assert merged.shape == (4, merge.out_dim) == (4, 5 if mode == "concat" else 3)
    for n in range(4):
        q, i = ids[n], scale * merge.project.weight @ image[n]
        expected = torch.cat([q, i]) if mode == "concat" else q * i if mode == "mul" else (1 - scale) * q + i
        if not present[n]:
            expected = torch.cat([q, torch.zeros(2).double()]) if mode == "concat" else q
        torch.testing.assert_close(merged[n], expected)
    torch.testing.assert_close(merge(ids, image)[0], merged[0])
    pairs = merge(ids, image[:2, None].expand(2, 4, D))  # of two users and four items
    torch.testing.assert_close(pairs[1, 3], merge(ids[3:], image[1:2])[0])


def gate() -> tuple[ContextGate, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return ContextGate(4, D, 5, 7).double(), *(torch.randn(3, width).double() for width in (4, D, 5))


def test_context_equals_the_formula() -> None:
    module, state, image, ids = gate()
    torch.nn.init.normal_(module.bias)
    contexts, gates = module(state, image, ids, return_gate=True)
    torch.testing.assert_close(module(state, image, ids), contexts)
    for n in range(3):
        beta = 1 / (1 + math.exp(-float(module.gate.weight[0].detach() @ state[n])))
        assert gates[n].item() == pytest.approx(beta)
        mixed = (1 - beta) * (module.ids.weight @ ids[n]) + beta * (module.visual.weight @ image[n]) + module.bias
        torch.testing.assert_close(contexts[n], mixed.clamp(min=0))
    torch.testing.assert_close(module.mix(state, *module.parts(image, ids))[0], contexts)


def test_gradient_of_the_context_reaches_the_attention() -> None:
    fusion = build()
    module, state, *_ = gate()
    regions, query = inputs()
    context = module(state, fusion(regions[:3], None, query[:3]), torch.randn(3, 5).double())
    context.sum().backward()
    assert all(bool(layer.weight.grad.any()) for layer in (fusion.query, fusion.key, fusion.logit))


def test_gate_lies_between_0_and_1_and_hides_the_image_when_closed() -> None:
    module, state, image, ids = gate()
    contexts, gates = module(state, image, ids, return_gate=True)
    assert gates.shape == (3, 1)
    assert bool(((gates > 0) & (gates < 1)).all())
    assert not torch.allclose(module(state, image + 1, ids), contexts)
    torch.nn.init.constant_(module.gate.weight, -1e4)
    closed = state.abs() + 1
    torch.testing.assert_close(module(closed, image + 1, ids), module(closed, image, ids))
    torch.testing.assert_close(module(-closed, image, ids + 1), module(-closed, image, ids))  # fully open, it hides the embeddings


def test_unknown_forms_and_missing_query_are_rejected() -> None:
    with pytest.raises(ValueError, match="score must be 'product' or 'sum', but is 'dot'"):
        RegionFusion(D, score="dot")
    with pytest.raises(ValueError, match="mode must be 'mul', 'add' or 'concat', but is 'max'"):
        VisualMerge(D, D, "max")
    with pytest.raises(ValueError, match="region fusion needs a query"):
        RegionFusion(D)(torch.zeros(1, R, D))
