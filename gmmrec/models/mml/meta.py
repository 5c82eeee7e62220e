"""Learning to learn: weights that take a few steps of their own for every task, all tasks at once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

Weights = dict[str, Tensor]
"""Parameters by name, as in ``module.named_parameters()``; of many tasks, with a leading axis ``[N, ...]``."""


def inner_loop(
    loss: Callable[..., Tensor],
    weights: Mapping[str, Tensor],
    tasks: tuple[Tensor | None, ...],
    *,
    steps: int,
    lr: float,
    first_order: bool = True,
) -> Weights:
    r"""The inner loop of MAML: for every task, some steps of gradient descent that begin at the same weights.

    .. math:: \theta_n^{(0)} = \theta, \qquad \theta_n^{(s+1)} = \theta_n^{(s)} - \eta \nabla \mathcal{L}_n(\theta_n^{(s)})

    Source: Finn et al., ICML 2017, algorithm 1. Nothing is changed in place: the weights that go in stay what they are, and what is
    not among them does not move. Works where gradients are switched off, too: then only what comes out is without them.

    Args:
        loss: From weights by name and what one task brings (a row of each of ``tasks``) to a number.
        weights: What all tasks begin with.
        tasks: Tensors ``[N, ...]``; None is handed on.
        steps: How many.
        lr: Learning rate :math:`\eta`.
        first_order: Whether the derivative takes the steps as constants (FOMAML): then the gradient at a task's own weights counts
            as that at the shared ones. Otherwise it goes through the steps.

    Returns:
        Weights of every task, ``[N, ...]`` each.

    >>> away = lambda weights, target: 0.5 * (weights["w"] - target).square().sum()
    >>> inner_loop(away, {"w": torch.zeros(())}, (torch.tensor([1.0, 10.0]),), steps=2, lr=0.5)["w"]
    tensor([0.7500, 7.5000])
    """
    num_tasks = next(len(value) for value in tasks if value is not None)
    axes = tuple(None if value is None else 0 for value in tasks)
    adapted, where = dict(weights), None  # the first step is taken from the same weights, which need not be repeated
    norms = nullcontext() if first_order else _PlainLayerNorms()
    with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order), sdpa_kernel(SDPBackend.MATH), norms:
        for _ in range(steps):  # see call_with_own_weights
            gradient = vmap(grad(loss), in_dims=(where, *axes), randomness="different")(adapted, *tasks)
            adapted, where = {name: value - lr * gradient[name] for name, value in adapted.items()}, 0
    if not steps:
        return {name: value.expand(num_tasks, *value.shape) for name, value in weights.items()}
    if first_order:
        return {name: value + (adapted[name] - value).detach() for name, value in weights.items()}
    return adapted


def call_with_own_weights(
    module: nn.Module, weights: Mapping[str, Tensor], inputs: tuple[Tensor, ...], **options: Tensor | None
) -> Tensor:
    """Every task through a module with the task's own weights.

    The fused kernels of attention know neither tasks nor second derivatives, so here attention is the plain formula.

    Args:
        module: Takes what one task brings.
        weights: Of every task, ``[N, ...]`` each.
        inputs: ``[N, ...]``.
        **options: The same by name, or None.

    Returns:
        ``[N, ...]``.

    >>> weights = {"weight": torch.tensor([[[2.0]], [[3.0]]])}
    >>> call_with_own_weights(nn.Linear(1, 1, bias=False), weights, (torch.tensor([[1.0], [10.0]]),))
    tensor([[ 2.],
            [30.]])
    """
    named = {name: value for name, value in options.items() if value is not None}

    def call(own: Weights, given: tuple[Tensor, ...], by_name: Weights) -> Tensor:
        result: Tensor = functional_call(module, own, given, by_name)
        return result

    with sdpa_kernel(SDPBackend.MATH):
        axes = (0, 0, 0) if named else (0, 0, None)
        together: Tensor = vmap(call, in_dims=axes, randomness="different")(dict(weights), inputs, named)
    return together


class _PlainLayerNorms(TorchFunctionMode):
    """Layer norms by their formula: of the fused ones, ``vmap`` takes mean and scale as constants in the second derivative.

    See https://github.com/pytorch/functorch/issues/534.
    """

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return (_layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    normal = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias
