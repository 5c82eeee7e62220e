"""Inputs, assertions and reference functions for tests of fusions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(*shape: int, seed: int = 0) -> Tensor:
    """Draw a mask whose first row is empty and whose last row is full."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    flat = mask.view(-1, shape[-1])
    flat[0], flat[-1] = False, True
    return mask


def assert_same(actual: Tensor, expected: Tensor, module: nn.Module, *inputs: Tensor) -> None:
    """Assert equal values and equal gradients with respect to all parameters and inputs."""
    torch.testing.assert_close(actual, expected)
    factor = random(*actual.shape, seed=99)
    leaves = [*inputs, *module.parameters()]
    gradients = [torch.autograd.grad((x * factor).sum(), leaves, allow_unused=True, retain_graph=True) for x in (actual, expected)]
    for leaf, actual_gradient, expected_gradient in zip(leaves, *gradients, strict=True):
        zeros = torch.zeros_like(leaf)
        torch.testing.assert_close(
            zeros if actual_gradient is None else actual_gradient, zeros if expected_gradient is None else expected_gradient
        )


def assert_never_read(call: Callable[[Tensor], Tensor], tokens: Tensor, mask: Tensor, module: nn.Module) -> None:
    """Assert bitwise equal values and gradients with zeros and NaN under the mask, and gradients for the tokens present."""
    results = []
    for hidden in (0.0, torch.nan):
        x = tokens.detach().masked_fill(~mask.unsqueeze(-1), hidden).requires_grad_()
        module.zero_grad()
        out = call(x)
        out.square().sum().backward()
        assert x.grad is not None
        assert bool((x.grad[~mask] == 0).all())
        assert bool(x.grad[mask].any())
        results.append([out.detach(), x.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    for with_zeros, with_nan in zip(*results, strict=True):
        assert torch.equal(with_zeros, with_nan)


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalise a vector ``[D]``."""
    centred = x - x.mean()
    return centred / torch.sqrt(centred.square().mean() + norm.eps) * norm.weight + norm.bias


def softmax(logits: list[Tensor]) -> list[Tensor]:
    """Compute the softmax of scalars."""
    powers = [logit.exp() for logit in logits]
    return [power / sum(powers) for power in powers]
