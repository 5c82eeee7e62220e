import copy

import pytest
import torch
from torch.nn import functional as F

from gmmrec.models.mml.adaptive import AdaptiveTransformer, Episode
from gmmrec.nn.sequence.transformer import SequenceTransformer
from tests.nn.fusion.checks import random

B, L, D = 4, 6, 8
MASK = torch.tensor([[True] * 6, [False, False, True, True, True, True], [False, True, False, True, True, False], [False] * 6])


def learner():
    torch.manual_seed(0)
    return AdaptiveTransformer(SequenceTransformer(D, L, num_layers=2, causal=True)).double()


def episode(seed=0, bias=True):
    tokens = random(B, L, D, seed=seed)
    guide = 0.3 * random(B, L, D, seed=seed + 2)
    return Episode(tokens, MASK, random(B, L, D, seed=seed + 1), MASK, guide @ guide.mT if bias else None)


SUPPORT = MASK & (torch.arange(L) < L - 1)


def test_only_fast_weights_adapt_and_shared_weights_are_unchanged():
    model, inputs = learner(), episode()
    before = copy.deepcopy(model.state_dict())
    weights = model.adapted(inputs, SUPPORT, torch.eye(D).double(), steps=2, lr=0.1)
    assert set(weights) == {name for name, _ in model.transformer.named_parameters()}
    changed = {
        name for name, weight in weights.items() if not torch.equal(weight[0], dict(model.transformer.named_parameters())[name])
    }
    assert {name for name in weights if "key.bias" not in name} <= changed  # the softmax is invariant to the bias of keys
    model(inputs, SUPPORT, torch.eye(D).double(), steps=2, lr=0.1).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_adaptation_matches_explicit_gradient_descent():
    model, inputs, covariance = learner(), episode(), torch.cov(random(D, 30, seed=9))
    states = model(inputs, SUPPORT, covariance, steps=3, lr=0.05)
    for b in range(3):
        reference = copy.deepcopy(model.transformer)
        for _ in range(3):
            h, losses, newest = reference(inputs.tokens[b], MASK[b], bias=inputs.bias[b]), [], None
            for t in range(L):
                newest = t if MASK[b, t] else newest
                if newest is not None and SUPPORT[b, t]:
                    margin, variance = h[newest] @ inputs.following[b, t], h[newest] @ covariance @ h[newest]
                    kappa = (1 + torch.pi * variance / 8).sqrt()
                    losses.append(kappa * F.softplus(-margin / kappa))
            gradients = torch.autograd.grad(torch.stack(losses).mean(), list(reference.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(reference.parameters(), gradients, strict=True):
                    weight -= 0.05 * gradient
        expected = reference(inputs.tokens[b], MASK[b], bias=inputs.bias[b])
        torch.testing.assert_close(states[b][MASK[b]], expected[MASK[b]])


@pytest.mark.parametrize("steps", [0, 2])
def test_position_without_a_token_repeats_the_previous_state(steps):
    model, inputs = learner(), episode()
    states = model(inputs, SUPPORT, torch.eye(D).double(), steps=steps, lr=0.1)
    assert torch.equal(states[2, 2], states[2, 1])
    assert torch.equal(states[2, 5], states[2, 4])
    assert not bool(states[2, 0].any())
    assert torch.equal(states[3], torch.zeros(L, D).double())


@pytest.mark.parametrize("bias", [False, True])
def test_states_are_independent_of_later_tokens(bias):
    model, inputs = learner(), episode(bias=bias)
    for t in range(L - 1):
        tokens = torch.cat([inputs.tokens[:, : t + 1], random(B, L - t - 1, D, seed=5)], dim=1)
        changed = None
        if inputs.bias is not None:
            changed = inputs.bias.clone()
            changed[:, t + 1 :], changed[:, :, t + 1 :] = 7.0, 7.0
        one, other = (
            model(e, SUPPORT, torch.eye(D).double(), steps=0, lr=0.0)
            for e in (inputs, inputs._replace(tokens=tokens, bias=changed))
        )
        torch.testing.assert_close(one[:, : t + 1], other[:, : t + 1])
        assert not torch.allclose(one[0, t + 1 :], other[0, t + 1 :])


def test_users_without_support_keep_shared_weights():
    model, inputs = learner(), episode()
    none = torch.zeros_like(SUPPORT)
    torch.testing.assert_close(*(model(inputs, none, torch.eye(D).double(), steps=steps, lr=0.5) for steps in (0, 2)))


@pytest.mark.parametrize("first_order", [True, False])
def test_dropout_differs_by_user_and_gradients_reach_all_weights(first_order):
    torch.manual_seed(0)
    model = AdaptiveTransformer(SequenceTransformer(D, L, dropout=0.5, attention_dropout=0.5, causal=True))
    one = torch.randn(1, L, D).expand(2, L, D)
    mask = torch.ones(2, L, dtype=torch.bool)
    states = model(Episode(one, mask, one, mask), mask, torch.eye(D), steps=1, lr=0.1, first_order=first_order)
    assert not torch.equal(states[0], states[1])
    states.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
