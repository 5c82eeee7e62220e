"""What the tests of fusions ask again and again."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(*shape: int, seed: int = 0) -> Tensor:
    """Some rows of the last axis are full, the first is empty."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    flat = mask.view(-1, shape[-1])
    flat[0], flat[-1] = False, True
    return mask


def assert_same(found: Tensor, expected: Tensor, module: nn.Module, *inputs: Tensor) -> None:
    """Values are the same, and so are derivatives by all parameters and inputs."""
    torch.testing.assert_close(found, expected)
    factor = random(*found.shape, seed=99)
    leaves = [*inputs, *module.parameters()]
    gradients = [torch.autograd.grad((x * factor).sum(), leaves, allow_unused=True, retain_graph=True) for x in (found, expected)]
    for leaf, one, other in zip(leaves, *gradients, strict=True):
        zeros = torch.zeros_like(leaf)
        torch.testing.assert_close(zeros if one is None else one, zeros if other is None else other)


def assert_never_read(call: Callable[[Tensor], Tensor], tokens: Tensor, mask: Tensor, module: nn.Module) -> None:
    """Whether zeros or NaN are under the mask, values and derivatives are equal bit by bit, and there is a derivative elsewhere."""
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
    for calm, wild in zip(*results, strict=True):
        assert torch.equal(calm, wild)


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Of one vector ``[D]``."""
    centred = x - x.mean()
    return centred / torch.sqrt(centred.square().mean() + norm.eps) * norm.weight + norm.bias


def softmax(logits: list[Tensor]) -> list[Tensor]:
    """Of single numbers."""
    powers = [logit.exp() for logit in logits]
    return [power / sum(powers) for power in powers]
