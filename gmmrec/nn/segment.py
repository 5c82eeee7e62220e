r"""Sum, maximum and softmax over the segments of a compressed (CSR) layout, such as the incoming edges of every target.

Segment :math:`n` is ``values[indptr[n]:indptr[n + 1]]``. The kernels are torch's own or those of torch-scatter; the derivatives are
written here once, so that both backends yield the same values and gradients. ``benchmarks/segment.py`` compares them with the
alternatives.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor

from gmmrec.nn.choice import check_choice

Backend = Literal["auto", "torch", "scatter"]
"""Reduction kernels: ``"torch"``, ``"scatter"`` (torch-scatter, an extra), or ``"auto"``, the faster ones. On a CPU these are
torch's, which take two thirds to three quarters of the time for a softmax and its derivative; GPUs have not been measured yet."""


def segment_sum(values: Tensor, indptr: Tensor, index: Tensor | None = None, *, backend: Backend = "auto") -> Tensor:
    """Sum every segment; an empty one yields 0.

    Args:
        values: Floating-point numbers, segment after segment.
        indptr: Boundaries of the segments.
        index: Segment of every value; computed from ``indptr`` if not given.
        backend: Reduction kernels.

    Shapes:
        - **input:** values ``[E]`` or ``[E, H]``, indptr ``[N + 1]``, index ``[E]``
        - **output:** ``[N]`` or ``[N, H]``

    >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2, 3]))
    tensor([3., 0., 4.])
    """
    return _segment_sum(values, indptr, _index(values, indptr, index), backend)


def segment_max(values: Tensor, indptr: Tensor, index: Tensor | None = None, *, backend: Backend = "auto") -> Tensor:
    """Take the maximum of every segment; an empty one yields minus infinity. Equal maxima share the gradient equally.

    Arguments and shapes are those of :func:`segment_sum`.

    >>> segment_max(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2, 3]))
    tensor([2., -inf, 4.])
    """
    return _segment_max(values, indptr, _index(values, indptr, index), backend)


def segment_softmax(values: Tensor, indptr: Tensor, index: Tensor | None = None, *, backend: Backend = "auto") -> Tensor:
    """Apply softmax within every segment, without overflow for any finite numbers.

    Arguments and input shapes are those of :func:`segment_sum`; the output has the shape of ``values``.

    >>> segment_softmax(torch.tensor([1000.0, 1000.0, -4.0]), torch.tensor([0, 2, 2, 3]))
    tensor([0.5000, 0.5000, 1.0000])
    """
    return _segment_softmax(values, indptr, _index(values, indptr, index), backend)


def _index(values: Tensor, indptr: Tensor, index: Tensor | None) -> Tensor:
    if index is not None:
        return index
    segments = torch.arange(indptr.numel() - 1, device=indptr.device)
    return torch.repeat_interleave(segments, indptr.diff().long(), output_size=values.shape[0])


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indptr: Tensor, index: Tensor, backend: Backend) -> Tensor:
        ctx.save_for_backward(index)
        return _reduce(values, indptr, "sum", backend)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        (index,) = ctx.saved_tensors
        return grads[0].index_select(0, index), None, None, None


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indptr: Tensor, index: Tensor, backend: Backend) -> Tensor:
        largest = _reduce(values, indptr, "max", backend)
        ctx.save_for_backward(values == largest.index_select(0, index), indptr, index)
        ctx.backend = backend
        return largest

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        is_largest, indptr, index = ctx.saved_tensors
        (grad,) = grads
        share = is_largest.to(grad.dtype)
        share = share / _reduce(share, indptr, "sum", ctx.backend).index_select(0, index)
        return share * grad.index_select(0, index), None, None, None


class _SegmentSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indptr: Tensor, index: Tensor, backend: Backend) -> Tensor:
        softmax = (values - _reduce(values, indptr, "max", backend).index_select(0, index)).exp_()
        softmax /= _reduce(softmax, indptr, "sum", backend).index_select(0, index)
        ctx.save_for_backward(softmax, indptr, index)
        ctx.backend = backend
        return softmax

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        softmax, indptr, index = ctx.saved_tensors
        weighted = softmax * grads[0]
        total = _segment_sum(weighted, indptr, index, ctx.backend)
        return weighted - softmax * total.index_select(0, index), None, None, None


_segment_sum: Callable[[Tensor, Tensor, Tensor, Backend], Tensor] = _SegmentSum.apply
_segment_max: Callable[[Tensor, Tensor, Tensor, Backend], Tensor] = _SegmentMax.apply
_segment_softmax: Callable[[Tensor, Tensor, Tensor, Backend], Tensor] = _SegmentSoftmax.apply


def _reduce(values: Tensor, indptr: Tensor, how: Literal["sum", "max"], backend: Backend) -> Tensor:
    """Reduce without gradients; the only function in which the backends differ."""
    check_choice(Backend, backend=backend)
    if backend != "scatter":
        initial = 0.0 if how == "sum" else -torch.inf
        return torch.segment_reduce(values, how, offsets=indptr, axis=0, initial=initial, unsafe=True)
    reduced = _segment_csr()(values, indptr.long(), reduce=how)
    if how == "max":  # torch-scatter yields 0 for an empty segment
        reduced.masked_fill_((indptr[1:] == indptr[:-1]).view(-1, *[1] * (values.dim() - 1)), -torch.inf)
    return reduced


def _segment_csr() -> Callable[..., Tensor]:
    try:
        from torch_scatter import segment_csr
    except ImportError as error:
        message = (
            "backend='scatter' needs torch-scatter, which is not installed; run: pip install --no-build-isolation 'gmmrec[scatter]'"
        )
        raise ImportError(message) from error
    return cast(Callable[..., Tensor], segment_csr)
