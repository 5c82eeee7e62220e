import pytest
import torch

from gmmrec.models.mml.prediction import PredictionAttentionFusion, standardized
from tests.nn.fusion.checks import random

N, M, S, C = 5, 3, 6, 7
MASK = torch.tensor([[True] * 3, [True, False, True], [False, True, False], [False] * 3, [True] * 3])


def fusion(**settings):
    torch.manual_seed(0)
    return PredictionAttentionFusion(S, (4,), **settings).double()


def test_matches_the_reference():
    fuse, states, scores = fusion(), random(N, M, S), random(N, M, C, seed=1)
    fused, weights = fuse(states, scores, MASK)
    first, second = fuse.layers[0], fuse.layers[2]
    for n in range(N):
        unnormalised, rows = [], []
        for m in range(M):
            if MASK[n, m]:
                x = (states[n, m] - states[n, m].mean()) / (states[n, m].var(correction=0) + 1e-5).sqrt()
                x = x * fuse.norm.weight + fuse.norm.bias
                logit = second.weight @ (first.weight @ x + first.bias).clamp(min=0) + second.bias
                unnormalised.append(logit.clamp(min=0).exp())
                rows.append((scores[n, m] - scores[n, m].mean()) / scores[n, m].std(correction=0))
        expected = (
            sum(c * r for c, r in zip(unnormalised, rows, strict=True)) / sum(unnormalised) if rows else torch.zeros(C).double()
        )
        torch.testing.assert_close(fused[n], expected.expand(C), rtol=1e-6, atol=1e-7)
        assert weights[n][~MASK[n]].abs().sum() == 0


def test_weights_are_positive_sum_to_one_and_are_uniform_for_equal_states():
    fuse = fusion()
    weights = fuse.weights(random(N, M, S))
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(N).double())
    same = fuse.weights(random(N, 1, S).expand(N, M, S))
    torch.testing.assert_close(same, torch.full((N, M), 1 / 3).double())


@pytest.mark.parametrize("m", range(M))
def test_fusion_is_invariant_to_shift_and_scale_of_a_score_row(m):
    fuse, states, scores = fusion(), random(N, M, S), random(N, M, C, seed=1)
    changed = scores.clone()
    changed[:, m] = 3 * changed[:, m] + 100
    torch.testing.assert_close(fuse(states, changed)[0], fuse(states, scores)[0], rtol=1e-6, atol=1e-7)
    plain = fusion(normalize="none")
    assert not torch.allclose(plain(states, changed)[0], plain(states, scores)[0])


def test_masked_values_are_never_read():
    fuse, states, scores = fusion(), random(N, M, S), random(N, M, C, seed=1)
    hidden = ~MASK.unsqueeze(-1)
    expected = fuse(states, scores, MASK)
    actual = fuse(states.masked_fill(hidden, torch.nan), scores.masked_fill(hidden, torch.nan), MASK)
    assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))


def test_relu_logits_are_nonnegative():
    fuse, states = fusion(), random(N, M, S)
    with torch.no_grad():
        fuse.layers[-1].bias.fill_(-100)
    torch.testing.assert_close(fuse.weights(states), torch.full((N, M), 1 / 3).double())
    fuse.relu_logits = False
    assert float(fuse.weights(states).detach().std()) > 0.01


def test_no_hidden_layer_and_equal_scores():
    assert PredictionAttentionFusion(S, ()).weights(torch.randn(N, M, S)).shape == (N, M)
    assert torch.equal(standardized(torch.full((2, C), 3.0)), torch.zeros(2, C))


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalize must be 'zscore' or 'none', but is 'layernorm'"):
        PredictionAttentionFusion(S, normalize="layernorm")
