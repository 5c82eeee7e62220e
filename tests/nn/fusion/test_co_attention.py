import math

import pytest
import torch
from torch import Tensor

from gmmrec.nn.fusion.co_attention import CoAttention, CoAttentionFusion, GuidedAttention

N, P, Q, D = 5, 3, 4, 6
FORMS = [{}, {"score": "additive"}, {"accumulate": False}, {"start": "first"}, {"share_steps": True, "hidden": 3, "steps": 2}]


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(N, t, D, generator=generator).double() for t in (P, Q))
    left_mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1], [1, 0, 1]]).bool()
    right_mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    return left, right, left_mask, right_mask


def build(**settings) -> CoAttention:
    torch.manual_seed(0)
    return CoAttention(D, **settings).double()


def slow_weights(attention: GuidedAttention, tokens: list[Tensor], guide: Tensor) -> list[Tensor]:
    scores = []
    for x in tokens:
        a, b = attention.token.weight @ x, attention.guide.weight @ guide
        scores.append(
            attention.logit.weight[0] @ (torch.tanh(a) * torch.tanh(b) if attention.score == "product" else torch.tanh(a + b))
        )
    total = sum(torch.exp(s) for s in scores)
    return [torch.exp(s) / total for s in scores]


def slow(
    fusion: CoAttention, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor
) -> tuple[list[list[Tensor]], list[list[dict[tuple[int, int], float]]]]:
    """Memories by row and side, and weights by row and side: a number for every step and present token."""
    memories, weights = [], []
    for n in range(len(left)):
        there = [[t for t in range(m.shape[1]) if m[n, t]] for m in (left_mask, right_mask)]
        tokens = [[x[n, t] for t in positions] for x, positions in zip((left, right), there, strict=True)]
        zero = torch.zeros(D, dtype=torch.float64)
        memory = [(x[0] if fusion.start == "first" else sum(x) / len(x)) if x else zero for x in tokens]
        found: list[dict[tuple[int, int], float]] = [{}, {}]
        for k in range(fusion.steps):
            new = []
            for side, attentions in enumerate((fusion.left, fusion.right)):
                shares = slow_weights(attentions[k % len(attentions)], tokens[side], memory[1 - side])
                messages = sum((s * x for s, x in zip(shares, tokens[side], strict=True)), zero)
                new.append(memory[side] + messages if fusion.accumulate else messages)
                found[side] |= {(k, t): float(s.detach()) for t, s in zip(there[side], shares, strict=True)}
            memory = new
        memories.append(memory)
        weights.append(found)
    return memories, weights


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_equals_the_formula_in_values_and_gradients(settings) -> None:
    fusion = build(**settings)
    left, right, *masks = inputs()
    left.requires_grad_(), right.requires_grad_()
    memories, weights = slow(fusion, left, right, *masks)
    summaries, shares = fusion(left, right, *masks, return_weights=True)
    for n in range(N):
        for side in range(2):
            torch.testing.assert_close(summaries[side][n], memories[n][side])
            for k in range(fusion.steps):
                expected = [weights[n][side].get((k, t), 0.0) for t in range(shares[side].shape[2])]
                assert shares[side][n, k].tolist() == pytest.approx(expected)
    wanted = [left, right, *fusion.parameters()]
    factor = torch.randn(2, N, D, generator=torch.Generator().manual_seed(2)).double()
    found = torch.autograd.grad((torch.stack(summaries) * factor).sum(), wanted)
    dense = torch.stack([torch.stack([row[side] for row in memories]) for side in range(2)])
    for f, e in zip(found, torch.autograd.grad((dense * factor).sum(), wanted), strict=True):
        torch.testing.assert_close(f, e)


def test_a_case_by_hand() -> None:
    fusion = CoAttention(1, steps=1)
    for attention in (*fusion.left, *fusion.right):
        for layer, value in ((attention.token, 1.0), (attention.guide, 1.0), (attention.logit, 2.0)):
            torch.nn.init.constant_(layer.weight, value)
    left, right = torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [2.0]]])  # both memories start at 1
    (user, video), (of_user, of_video) = fusion(left, right, return_weights=True)
    share = 1 / (1 + math.exp(-2 * math.tanh(2) * math.tanh(1)))  # against a token whose logit is 0
    assert of_video.flatten().tolist() == pytest.approx([1 - share, share])
    assert video.item() == pytest.approx(1 + 2 * share)
    assert of_user.item() == 1
    assert user.item() == 2


def test_shapes_and_weights_that_sum_to_one_and_are_zero_on_missing_tokens() -> None:
    left, right, *masks = inputs()
    summaries, weights = build(steps=2)(left, right, *masks, return_weights=True)
    for summary, share, mask, tokens in zip(summaries, weights, masks, (P, Q), strict=True):
        assert summary.shape == (N, D)
        assert share.shape == (N, 2, tokens)
        assert bool((share >= 0).all())
        torch.testing.assert_close(share.sum(-1), mask.any(1, keepdim=True).double().expand(N, 2))
        assert bool((share.transpose(1, 2)[~mask] == 0).all())


@pytest.mark.parametrize("share_steps", [False, True])
def test_without_steps_the_result_is_the_mean_and_there_are_no_parameters(share_steps) -> None:
    fusion = build(steps=0, share_steps=share_steps)
    left, right, *masks = inputs()
    (user, video), (of_user, of_video) = fusion(left, right, *masks, return_weights=True)
    torch.testing.assert_close(user[1], (left[1, 1] + left[1, 2]) / 2)
    torch.testing.assert_close(video[0], right[0].mean(0))
    assert list(fusion.parameters()) == []
    assert (of_user.shape, of_video.shape) == ((N, 0, P), (N, 0, Q))


@pytest.mark.parametrize("score", ["product", "additive"])
def test_who_looks_decides_unless_the_guides_matrix_is_zero(score) -> None:
    fusion = build(score=score)
    left, right, *_ = inputs()
    same = right[:1].expand(N, Q, D)
    (_, video), (_, weights) = fusion(left, same, return_weights=True)
    assert bool(((weights[1:] - weights[:1]).abs().amax(-1) > 1e-4).all())
    assert bool(((video[1:] - video[:1]).abs().amax(-1) > 1e-4).all())
    for attention in fusion.right:
        torch.nn.init.zeros_(attention.guide.weight)
    (_, video), (_, weights) = fusion(left, same, return_weights=True)
    torch.testing.assert_close(weights, weights[:1].expand(N, 3, Q))
    torch.testing.assert_close(video, video[:1].expand(N, D))
    uniform = torch.full_like(weights, 1 / Q)
    assert torch.allclose(weights, uniform) == (score == "product")  # the sum still looks at the tokens


def test_permuting_tokens_permutes_weights_and_leaves_memories() -> None:
    fusion = build()
    left, right, left_mask, right_mask = inputs()
    order = torch.tensor([2, 0, 3, 1])
    before, shares = fusion(left, right, left_mask, right_mask, return_weights=True)
    after, moved = fusion(left, right[:, order], left_mask, right_mask[:, order], return_weights=True)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(moved[0], shares[0])
    torch.testing.assert_close(moved[1], shares[1][..., order])


@pytest.mark.parametrize("steps", [1, 3])
def test_a_single_token_counts_fully_and_adds_up(steps) -> None:
    left, right, *_ = inputs()
    (user, _), (weights, _) = build(steps=steps)(left[:, :1], right, return_weights=True)
    assert weights.tolist() == torch.ones(N, steps, 1).tolist()
    torch.testing.assert_close(user, left[:, 0] + steps * left[:, 0])
    (user, _) = build(steps=steps, accumulate=False)(left[:, :1], right)
    torch.testing.assert_close(user, left[:, 0])


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_does_not_see_what_the_other_has_just_become(side) -> None:
    fusion = build(steps=2)
    left, right, *_ = inputs()
    before = fusion.memories(left, right)[:2]
    torch.nn.init.normal_((fusion.left, fusion.right)[side][0].token.weight, std=5.0)  # one side's first step
    after = fusion.memories(left, right)[:2]
    assert not torch.allclose(after[side][1], before[side][1])
    torch.testing.assert_close(after[1 - side][1], before[1 - side][1])
    assert not torch.allclose(after[1 - side][2], before[1 - side][2])


def test_exchanging_sides_and_parameters_exchanges_results() -> None:
    fusion, mirrored = build(), build()
    names = {"left": "right", "right": "left"}
    state = fusion.state_dict()
    mirrored.load_state_dict({names[key.split(".")[0]] + key[key.index(".") :]: value for key, value in state.items()})
    left, right, left_mask, right_mask = inputs()
    here, there = fusion(left, right, left_mask, right_mask), mirrored(right, left, right_mask, left_mask)
    torch.testing.assert_close(here, there[::-1])


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_a_missing_modality_leaves_everything_as_it_was(settings) -> None:
    fusion = build(**settings)
    left, right, left_mask, right_mask = inputs()
    before = fusion(left, right, left_mask, right_mask)
    missing = torch.full((N, 1, D), torch.nan, dtype=torch.float64)
    nowhere = torch.zeros(N, 1, dtype=torch.bool)
    for order in ((missing, left), (left, missing)):
        masks = (nowhere, left_mask) if order[0] is missing else (left_mask, nowhere)
        torch.testing.assert_close(fusion(torch.cat(order, 1), right, torch.cat(masks, 1), right_mask), before)


def test_values_under_masks_are_never_read_and_empty_sides_are_zeros() -> None:
    fusion = build()
    left, right, left_mask, right_mask = inputs()
    results = []
    for hidden in (0.0, torch.nan):
        x, y = (t.masked_fill(~m.unsqueeze(-1), hidden).requires_grad_() for t, m in ((left, left_mask), (right, right_mask)))
        fusion.zero_grad()
        user, video = fusion(x, y, left_mask, right_mask)
        assert bool((user[2] == 0).all())
        assert bool((video[3] == 0).all())
        (user.square().sum() + video.square().sum()).backward()
        results.append([user.detach(), video.detach(), x.grad, y.grad, *(p.grad for p in fusion.parameters())])
    for calm, wild in zip(*results, strict=True):
        assert torch.equal(calm, wild)


@pytest.mark.parametrize("score", ["product", "additive"])
def test_axes_that_are_broadcast_are_all_pairs(score) -> None:
    fusion = build(score=score)
    left, right, left_mask, right_mask = inputs()
    right, right_mask = right[:3], right_mask[:3]
    pairs, shares = fusion(left[:, None], right, left_mask[:, None], right_mask, return_weights=True)
    assert shares[1].shape == (N, 3, 3, Q)
    for b in range(N):
        for c in range(3):
            single, share = fusion(left[b], right[c], left_mask[b], right_mask[c], return_weights=True)
            torch.testing.assert_close(tuple(p[b, c] for p in pairs), single)
            torch.testing.assert_close(tuple(s[b, c] for s in shares), share)


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_a_side_that_does_not_attend_counts_its_tokens_alike_and_has_no_parameters(settings) -> None:
    fusion = build(attend=(False, True), **settings)
    left, right, left_mask, right_mask = inputs()
    assert {name.split(".")[0] for name, _ in fusion.named_parameters()} == {"right"}
    (user, video), (of_user, _) = fusion(left, right, left_mask, right_mask, return_weights=True)
    torch.testing.assert_close(
        of_user, (left_mask / left_mask.sum(1, keepdim=True).clamp(min=1))[:, None].double().expand_as(of_user)
    )
    both = build(**settings)  # with logits that are 0 for all
    both.right.load_state_dict(fusion.right.state_dict())
    for attention in both.left:
        torch.nn.init.zeros_(attention.logit.weight)
    torch.testing.assert_close((user, video), both(left, right, left_mask, right_mask))
    pairs, _ = fusion(left[:, None], right, left_mask[:, None], right_mask)
    assert pairs.shape == (N, 1, D)  # it depends on nobody else


def one_sided(settings: dict[str, object]) -> tuple[CoAttentionFusion, CoAttention]:
    torch.manual_seed(0)
    fusion, both = CoAttentionFusion(D, **settings).double(), CoAttention(D, **settings).double()
    both.left.load_state_dict(fusion.read.state_dict())
    return fusion, both


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_a_query_is_another_side_of_one_token(settings) -> None:
    fusion, both = one_sided(settings)
    tokens, right, mask, _ = inputs()
    torch.testing.assert_close(fusion(tokens, mask, right[:, 0]), both(tokens, right[:, :1], mask)[0])


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_without_a_query_the_set_is_its_own_other_side(settings) -> None:
    fusion, both = one_sided(settings)
    both.right.load_state_dict(fusion.read.state_dict())
    tokens, _, mask, _ = inputs()
    torch.testing.assert_close(fusion(tokens, mask), both(tokens, tokens, mask, mask)[0])


@pytest.mark.parametrize("settings", [*FORMS, {"steps": 0}], ids=str)
def test_weights_are_the_shares_of_tokens_in_the_result(settings) -> None:
    fusion, _ = one_sided(settings)
    tokens, _, mask, _ = inputs()
    fused, weights = fusion(tokens, mask, return_weights=True)
    factor = fusion.steps + 1 if fusion.accumulate else 1
    torch.testing.assert_close(fused, factor * (weights.unsqueeze(-1) * tokens).sum(1))
    torch.testing.assert_close(weights.sum(1), mask.any(1).double())


@pytest.mark.parametrize("module", [CoAttention, CoAttentionFusion])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps must be at least 0, but is -1"),
        ({"score": "dot"}, "score must be 'product' or 'additive', and start 'mean' or 'first', but they are 'dot' and 'mean'"),
        ({"start": "last"}, "but they are 'product' and 'last'"),
    ],
)
def test_settings_are_checked(module, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        module(D, **settings)
