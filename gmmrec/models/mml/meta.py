"""Meta-learning: per-task gradient steps on shared weights, vectorised over tasks."""

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
"""Parameters by name, as in ``module.named_parameters()``; per task, with a leading axis ``[N, ...]``."""


def inner_loop(
    loss: Callable[..., Tensor],
    weights: Mapping[str, Tensor],
    tasks: tuple[Tensor | None, ...],
    *,
    steps: int,
    lr: float,
    first_order: bool = True,
) -> Weights:
    r"""Run the inner loop of MAML: for every task, some steps of gradient descent from the same initial weights.

    .. math:: \theta_n^{(0)} = \theta, \qquad \theta_n^{(s+1)} = \theta_n^{(s)} - \eta \nabla \mathcal{L}_n(\theta_n^{(s)})

    Source: Finn et al., ICML 2017, algorithm 1. Nothing is modified in place: the initial weights are unchanged, and parameters
    not among them are not adapted. Also works under ``torch.no_grad``: then only the results carry no gradient.

    Args:
        loss: Maps weights by name and one task's tensors (a row of each of ``tasks``) to a scalar.
        weights: Initial weights, shared by all tasks.
        tasks: Tensors ``[N, ...]``; None is passed on.
        steps: Number of steps.
        lr: Learning rate :math:`\eta`.
        first_order: Treat the steps as constants in the outer derivative (FOMAML): the gradient at a task's adapted weights is
            taken for that at the shared ones. Otherwise differentiate through the steps.

    Returns:
        Adapted weights, ``[N, ...]`` each.

    >>> distance = lambda weights, target: 0.5 * (weights["w"] - target).square().sum()
    >>> inner_loop(distance, {"w": torch.zeros(())}, (torch.tensor([1.0, 10.0]),), steps=2, lr=0.5)["w"]
    tensor([0.7500, 7.5000])
    """
    num_tasks = next(len(value) for value in tasks if value is not None)
    axes = tuple(None if value is None else 0 for value in tasks)
    adapted, where = dict(weights), None  # the first step starts from shared weights, which need no task axis
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
    """Apply a module to every task with the task's own weights.

    Fused attention kernels support neither ``vmap`` nor second derivatives, so attention uses the plain formula here.

    Args:
        module: Module called once per task.
        weights: Weights per task, ``[N, ...]`` each.
        inputs: Positional inputs ``[N, ...]``.
        **options: Keyword inputs ``[N, ...]``, or None.

    Returns:
        ``[N, ...]``.

    >>> weights = {"weight": torch.tensor([[[2.0]], [[3.0]]])}
    >>> call_with_own_weights(nn.Linear(1, 1, bias=False), weights, (torch.tensor([[1.0], [10.0]]),))
    tensor([[ 2.],
            [30.]])
    """
    named = {name: value for name, value in options.items() if value is not None}

    def call(task_weights: Weights, args: tuple[Tensor, ...], kwargs: Weights) -> Tensor:
        output: Tensor = functional_call(module, task_weights, args, kwargs)
        return output

    with sdpa_kernel(SDPBackend.MATH):
        axes = (0, 0, 0) if named else (0, 0, None)
        outputs: Tensor = vmap(call, in_dims=axes, randomness="different")(dict(weights), inputs, named)
    return outputs


class _PlainLayerNorms(TorchFunctionMode):
    """Layer norms by formula: in the fused kernel, ``vmap`` treats mean and scale as constants in the second derivative.

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
