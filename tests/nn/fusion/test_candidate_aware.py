import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.fusion.candidate_aware import CandidateAwareAttention
from tests.nn.fusion.checks import assert_never_read, assert_same, random, random_mask, softmax

B, C, N, M, D = 3, 4, 5, 2, 6
CLICKS, CANDIDATES = random_mask(B, N, M), random_mask(B, C, M, seed=5)
CLICKS[0], CLICKS[1, 2] = False, True


def inputs() -> tuple[Tensor, Tensor]:
    return 0.5 * random(B, N, M, D), 0.5 * random(B, C, M, D, seed=1)


def slow(clicks: Tensor, mask: Tensor, candidates: Tensor, query_mask: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    users, weights, scores = torch.zeros(B, C, D).double(), torch.zeros(B, C, M, N, M).double(), torch.zeros(B, C).double()
    for b in range(B):
        for c in range(C):
            candidate = torch.zeros(D).double()
            for x in range(M):
                if not query_mask[b, c, x]:
                    continue
                candidate = candidate + candidates[b, c, x]
                for y in range(M):
                    present = [i for i in range(N) if mask[b, i, y]]
                    shares = softmax([scale * (candidates[b, c, x] @ clicks[b, i, y]) for i in present])
                    for i, weight in zip(present, shares, strict=True):
                        weights[b, c, x, i, y] = weight
                        users[b, c] = users[b, c] + weight * clicks[b, i, y]
            scores[b, c] = users[b, c].clone() @ candidate
    return users, weights, scores


@pytest.mark.parametrize("scale", [1.0, D**-0.5])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_in_loops(masked, scale) -> None:
    attention = CandidateAwareAttention(scale)
    clicks, candidates = (x.requires_grad_() for x in inputs())
    masks = (CLICKS, CANDIDATES) if masked else (None, None)
    full = (CLICKS, CANDIDATES) if masked else (torch.ones_like(CLICKS), torch.ones_like(CANDIDATES))
    users, weights, scores = slow(clicks, full[0], candidates, full[1], scale)
    actual, actual_weights = attention(clicks, masks[0], candidates, masks[1], return_weights=True)
    assert_same(actual, users, attention, clicks, candidates)
    assert_same(actual_weights, weights, attention, clicks, candidates)
    assert_same(attention.score(clicks, masks[0], candidates, masks[1]), scores, attention, clicks, candidates)


def test_masked_values_are_never_read() -> None:
    attention, (clicks, candidates) = CandidateAwareAttention(), inputs()
    for call in (attention, attention.score):
        assert_never_read(lambda x, call=call: call(x, CLICKS, candidates, CANDIDATES), clicks, CLICKS, attention)
        assert_never_read(lambda x, call=call: call(clicks, CLICKS, x, CANDIDATES), candidates, CANDIDATES, attention)


def test_shapes() -> None:
    clicks, candidates = inputs()
    user, weights = CandidateAwareAttention()(clicks, None, candidates, return_weights=True)
    assert (user.shape, weights.shape) == ((B, C, D), (B, C, M, N, M))
    assert CandidateAwareAttention().score(clicks, None, candidates).shape == (B, C)


def test_padded_clicks_do_not_change_scores() -> None:
    clicks, candidates = inputs()
    longer, present = torch.cat([random(B, 3, M, D, seed=3), clicks], 1), F.pad(torch.ones(B, N), (3, 0)).bool()
    attention = CandidateAwareAttention()
    torch.testing.assert_close(attention.score(longer, present[..., None], candidates), attention.score(clicks, None, candidates))


def test_single_click_has_weight_one() -> None:
    clicks, candidates = inputs()
    user, weights = CandidateAwareAttention()(clicks[:, :1], None, candidates, return_weights=True)
    assert torch.equal(weights, torch.ones(B, C, M, 1, M).double())
    expected = 2 * clicks[:, :1].sum(2)
    torch.testing.assert_close(user, expected.expand(B, C, D))
    scores = CandidateAwareAttention().score(clicks[:, :1], None, candidates)
    torch.testing.assert_close(scores, (candidates.sum(2) * expected).sum(-1))


def test_order_of_clicks_does_not_matter() -> None:
    clicks, candidates = inputs()
    order, attention = torch.tensor([3, 1, 4, 0, 2]), CandidateAwareAttention()
    scores, permuted = attention.score(clicks, CLICKS, candidates), attention.score(clicks[:, order], CLICKS[:, order], candidates)
    torch.testing.assert_close(permuted, scores)


def test_order_of_modalities_does_not_matter() -> None:
    clicks, candidates = inputs()
    attention = CandidateAwareAttention()
    scores = attention.score(clicks, CLICKS, candidates, CANDIDATES)
    torch.testing.assert_close(attention.score(clicks.flip(2), CLICKS.flip(2), candidates.flip(2), CANDIDATES.flip(2)), scores)


def test_candidates_are_independent_of_each_other() -> None:
    clicks, candidates = inputs()
    other = random(B, C, M, D, seed=9)
    other[:, 1] = candidates[:, 1]
    attention = CandidateAwareAttention()
    actual, expected = attention.score(clicks, CLICKS, other), attention.score(clicks, CLICKS, candidates)
    torch.testing.assert_close(actual[:, 1], expected[:, 1])
    assert not torch.allclose(actual[1:, 0], expected[1:, 0])


def test_weights_sum_to_one_over_clicks_and_empty_history_gives_zeros() -> None:
    clicks, candidates = inputs()
    attention = CandidateAwareAttention()
    user, weights = attention(clicks, CLICKS, candidates, CANDIDATES, return_weights=True)
    expected = CANDIDATES[..., None] & CLICKS.any(1)[:, None, None]  # [B, C, M', M]
    torch.testing.assert_close(weights.sum(3), expected.double())
    assert bool((weights * ~CLICKS[:, None, None] == 0).all())
    assert torch.equal(user[0], torch.zeros(C, D).double())
    assert torch.equal(attention.score(clicks, CLICKS, candidates)[0], torch.zeros(C).double())


def test_missing_images_leave_attention_over_texts() -> None:
    clicks, candidates = inputs()
    text = torch.tensor([True, False])
    attention = CandidateAwareAttention()
    actual = attention.score(clicks, text.expand(B, N, M), candidates, text.expand(B, C, M))
    torch.testing.assert_close(actual, attention.score(clicks[:, :, :1], None, candidates[:, :, :1]))


def test_missing_candidates_are_rejected() -> None:
    with pytest.raises(ValueError, match="candidate-aware attention needs a query, the candidates"):
        CandidateAwareAttention()(inputs()[0])
