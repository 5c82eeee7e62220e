import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.mutual import MutualAttentionFusion
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

B, P, Q, LEFT, RIGHT, OUT = 4, 3, 5, 6, 4, 7
LEFT_MASK, RIGHT_MASK = random_mask(B, P), random_mask(B, Q, seed=6).flip(0)


def build(**settings: bool) -> MutualAttentionFusion:
    torch.manual_seed(0)
    widths = (LEFT, LEFT) if settings.get("share") else (LEFT, RIGHT)
    return MutualAttentionFusion(*widths, OUT, 3, **settings).double()


def inputs(share: bool = False) -> tuple[Tensor, Tensor]:
    return random(B, P, LEFT), random(B, Q, LEFT if share else RIGHT, seed=1)


def slow(
    module: MutualAttentionFusion, own: Tensor, other: Tensor, here: Tensor, there: Tensor, side: str
) -> tuple[Tensor, Tensor]:
    """One side by the formulas, row by row and region by region."""
    part = getattr(module, side)
    weights, fused = torch.zeros(here.shape).double(), torch.zeros(len(own), OUT).double()
    for b in range(len(own)):
        rows, others = [n for n in range(own.shape[1]) if here[b, n]], [n for n in range(other.shape[1]) if there[b, n]]
        guide = sum((other[b, n] for n in others), torch.zeros(other.shape[2]).double()) / max(1, len(others))
        if not rows:
            continue
        if part.attend:
            logits = [part.logit.weight[0] @ torch.tanh(part.token.weight @ own[b, n] + part.guide.weight @ guide) for n in rows]
        else:
            logits = [torch.zeros(()).double() for _ in rows]
        total = torch.zeros(own.shape[2]).double()
        for n, share in zip(rows, softmax(logits), strict=True):
            weights[b, n] = share
            total = total + share * own[b, n]
        fused[b] = (part.project.weight @ total + part.project.bias).clamp(min=0)
    return fused, weights


@pytest.mark.parametrize("settings", [{}, {"share": True}, {"attend": False}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(settings, masked) -> None:
    module, (left, right) = build(**settings), (x.requires_grad_() for x in inputs(settings.get("share", False)))
    masks = (LEFT_MASK, RIGHT_MASK) if masked else (None, None)
    full = (LEFT_MASK, RIGHT_MASK) if masked else (torch.ones_like(LEFT_MASK), torch.ones_like(RIGHT_MASK))
    found, weights = module(left, right, *masks, return_weights=True)
    for side, own, other, here, there, position in (("left", left, right, *full, 0), ("right", right, left, *full[::-1], 1)):
        fused, expected = slow(module, own, other, here, there, side)
        assert_same(found[position], fused, module, left, right)
        if module.left.attend:
            assert_same(weights[position], expected, module, left, right)
        torch.testing.assert_close(weights[position], expected)


@pytest.mark.parametrize("settings", [{}, {"attend": False}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_all_pairs_are_those_one_by_one(settings, masked) -> None:
    module, (left, right) = build(**settings), inputs()
    right, masks = right[:3], (LEFT_MASK, RIGHT_MASK[:3]) if masked else (None, None)
    expected = torch.stack(
        [
            torch.cat(
                module(left[b : b + 1].expand(3, -1, -1), right, None if not masked else masks[0][b].expand(3, -1), masks[1]), 1
            )
            for b in range(B)
        ]
    )
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(module.pairs(left, right, *masks), 2), expected)
    torch.testing.assert_close(torch.cat(module.pairs(left, right, *masks), 2), expected)


def test_values_under_the_masks_are_never_read() -> None:
    module, (left, right) = build(), inputs()
    assert_never_read(lambda x: torch.cat(module(x, right, LEFT_MASK, RIGHT_MASK), 1), left, LEFT_MASK, module)
    assert_never_read(lambda x: torch.cat(module(left, x, LEFT_MASK, RIGHT_MASK), 1), right, RIGHT_MASK, module)
    with torch.no_grad():
        wild = module.pairs(left.masked_fill(~LEFT_MASK[..., None], torch.nan), right, LEFT_MASK, RIGHT_MASK)
        assert bool(torch.isfinite(torch.cat(wild, 2)).all())


def test_weights_are_shares_of_what_is_there() -> None:
    (left, right), weights = build()(*inputs(), LEFT_MASK, RIGHT_MASK, return_weights=True)
    assert left.shape == right.shape == (B, OUT)
    for weight, mask in zip(weights, (LEFT_MASK, RIGHT_MASK), strict=True):
        assert weight.shape == mask.shape
        assert bool((weight[mask] > 0).all())
        assert bool((weight[~mask] == 0).all())
        torch.testing.assert_close(weight.sum(1), mask.any(1).double())


def test_equal_regions_count_alike_and_their_sum_is_one_of_them() -> None:
    module, (left, right) = build(), inputs()
    same = left[:, :1].expand(-1, P, -1)
    (fused, _), (weights, _) = module(same, right, LEFT_MASK, return_weights=True)
    there = LEFT_MASK.any(1)
    torch.testing.assert_close(weights, LEFT_MASK.double() / LEFT_MASK.sum(1, keepdim=True).clamp(min=1))
    torch.testing.assert_close(fused[there], module.left.project(same[there, 0]).relu())


def test_a_side_is_weighed_in_the_light_of_the_other() -> None:
    module, (left, right) = build(), inputs()

    def weights(other: Tensor) -> Tensor:
        return module(left, other, return_weights=True)[1][0]

    assert not torch.allclose(weights(right), weights(right + 1))
    with torch.no_grad():
        module.left.guide.weight.zero_()
    assert torch.equal(weights(right), weights(right + 1))


def test_padding_changes_nothing() -> None:
    module, (left, right) = build(), inputs()
    wide = torch.cat([left, random(B, 2, LEFT, seed=7)], 1)
    mask = torch.arange(P + 2).expand(B, -1) < P
    for one, other in zip(module(wide, right, mask), module(left, right), strict=True):
        torch.testing.assert_close(one, other)


def test_sides_of_different_width_cannot_share() -> None:
    with pytest.raises(ValueError, match="equally wide, but their widths are 6 and 4"):
        MutualAttentionFusion(LEFT, RIGHT, share=True)
