import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from gmmrec.models.mml.meta import call_with_own_weights, inner_loop
from gmmrec.nn.sequence.transformer import SequenceTransformer

STEPS, LR = 3, 0.1


def setting():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    support, query = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    return module, support, query


def loss_of(module):
    return lambda weights, x: functional_call(module, weights, (x,)).square().sum() + x.sum()


def adapted_copy(module, x):
    """Return a copy of the module after plain gradient descent."""
    reference = copy.deepcopy(module)
    for _ in range(STEPS):
        gradients = torch.autograd.grad(reference(x).square().sum(), list(reference.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(reference.parameters(), gradients, strict=True):
                weight -= LR * gradient
    return reference


@pytest.mark.parametrize("tracked", [True, False])
def test_inner_loop_matches_gradient_descent_on_a_copy_per_task(tracked):
    module, support, query = setting()
    before = copy.deepcopy(module.state_dict())
    with torch.set_grad_enabled(tracked):  # also adapts under no_grad
        weights = inner_loop(loss_of(module), dict(module.named_parameters()), (support,), steps=STEPS, lr=LR)
        outputs = call_with_own_weights(module, weights, (query,))
    for n in range(5):
        reference = adapted_copy(module, support[n])
        for name, weight in reference.named_parameters():
            torch.testing.assert_close(weights[name][n], weight)
        torch.testing.assert_close(outputs[n], reference(query[n]))
    assert all(torch.equal(before[name], weight) for name, weight in module.state_dict().items())


def test_first_order_gradient_is_the_mean_over_tasks_at_adapted_weights():
    module, support, query = setting()
    weights = inner_loop(loss_of(module), dict(module.named_parameters()), (support,), steps=STEPS, lr=LR)
    call_with_own_weights(module, weights, (query,)).square().sum((1, 2)).mean().backward()
    expected = [torch.zeros_like(weight) for weight in module.parameters()]
    for n in range(5):
        reference = adapted_copy(module, support[n])
        for total, gradient in zip(
            expected, torch.autograd.grad(reference(query[n]).square().sum(), list(reference.parameters())), strict=True
        ):
            total += gradient / 5
    for weight, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


@pytest.mark.parametrize("norm", [nn.Tanh(), nn.LayerNorm(4), nn.LayerNorm(4, elementwise_affine=False)])
def test_second_order_gradient_differentiates_through_the_steps(norm):
    module, support, query = setting()
    module[1] = norm.double()

    def outer(*flat):
        initial = dict(zip((name for name, _ in module.named_parameters()), flat, strict=True))
        weights = inner_loop(loss_of(module), initial, (support,), steps=2, lr=LR, first_order=False)
        return call_with_own_weights(module, weights, (query,)).square().mean()

    assert torch.autograd.gradcheck(outer, tuple(module.parameters()))


def test_both_orders_take_the_same_steps():
    torch.manual_seed(0)
    module, x = SequenceTransformer(8, 4, num_layers=1, causal=True), torch.randn(3, 4, 8)
    steps = [
        inner_loop(loss_of(module), dict(module.named_parameters()), (x,), steps=2, lr=0.01, first_order=order)
        for order in (True, False)
    ]
    for name, weight in steps[0].items():
        torch.testing.assert_close(weight, steps[1][name])


def test_attention_has_second_derivatives():
    torch.manual_seed(0)
    module = SequenceTransformer(8, 4, num_layers=1, causal=True)
    x, bias = torch.randn(3, 4, 8), torch.randn(3, 4, 4)

    def loss(weights, x, bias):
        return functional_call(module, weights, (x,), {"bias": bias}).square().sum()

    weights = inner_loop(loss, dict(module.named_parameters()), (x, bias), steps=2, lr=LR, first_order=False)
    call_with_own_weights(module, weights, (x,), bias=bias).sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())


def test_zero_steps_leave_shared_weights():
    module, support, query = setting()
    weights = inner_loop(loss_of(module), dict(module.named_parameters()), (support, None), steps=0, lr=LR)
    torch.testing.assert_close(call_with_own_weights(module, weights, (query,)), module(query))
