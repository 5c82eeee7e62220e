r"""Sparse products on a sorted, cached ``EdgeIndex``: the hot path of every graph model.

``weighted_sum`` is :math:`\mathbf{y}_i = \sum_{j \to i} w_{ji} \mathbf{x}_j`, ``sampled_dot`` is
:math:`s_{ji} = \langle \mathbf{x}_j, \mathbf{y}_i \rangle` on the edges only. Each is the derivative of the other, so the two are
closed under differentiation of any order, and no ``[E, D]`` tensor is ever created.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric import EdgeIndex

from gmmrec.errors import UsageError

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class Compressed(NamedTuple):
    """Edges grouped by one end: ``indptr`` ``[N + 1]``, ``indices`` ``[E]`` of the other end, ``order`` ``[E]`` or None.

    ``order`` holds the positions of the edges in the original ``edge_index``; None means that the order is unchanged.
    """

    indptr: Tensor
    indices: Tensor
    order: Tensor | None
    size: tuple[int, int]

    def matrix(self, values: Tensor) -> Tensor:
        """Return the sparse CSR matrix of ``values`` ``[E]``, given in the order of the ``edge_index``."""
        values = values if self.order is None else values.index_select(0, self.order)
        return torch.sparse_csr_tensor(self.indptr, self.indices, values, self.size, check_invariants=False)


class Structure(NamedTuple):
    """Edges grouped by either end, so that neither a product nor its derivative needs a transpose."""

    by_target: Compressed
    by_source: Compressed
    source: Tensor
    target: Tensor

    def transposed(self) -> "Structure":
        """Return the edges with sources and targets exchanged, without copying."""
        return Structure(self.by_source, self.by_target, self.target, self.source)


_STRUCTURES = WeakTensorKeyDictionary()


def structure_of(edge_index: Tensor, num_sources: int, num_targets: int) -> Structure:
    """Group edges ``[2, E]`` by either end: once for an ``EdgeIndex`` (cached with it), on every call for a plain tensor."""
    known: Structure | None = _STRUCTURES.get(edge_index) if isinstance(edge_index, EdgeIndex) else None
    if known is not None and known.by_target.size == (num_targets, num_sources):
        return known
    plain = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
    structure = Structure(
        by_target=_compress(plain[1], plain[0], num_targets, num_sources),
        by_source=_compress(plain[0], plain[1], num_sources, num_targets),
        source=plain[0],
        target=plain[1],
    )
    if isinstance(edge_index, EdgeIndex):
        _STRUCTURES[edge_index] = structure
    return structure


def _compress(group: Tensor, other: Tensor, num_groups: int, num_others: int) -> Compressed:
    order = None
    if group.numel() > 1 and not bool((group[1:] >= group[:-1]).all()):
        order = torch.argsort(group, stable=True)
        other = other[order]
    counts = torch.bincount(group, minlength=num_groups)
    if counts.numel() > num_groups:  # the kernels would read out of bounds
        raise UsageError(f"edge_index names node {counts.numel() - 1}, but there are only {num_groups} nodes at that end")
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    small = max(group.numel(), num_groups, num_others) < 2**31  # 32-bit indices are read faster
    dtype = torch.int32 if small else torch.int64
    return Compressed(indptr.to(dtype), other.to(dtype).contiguous(), order, (num_groups, num_others))


def _has_kernels(tensor: Tensor) -> bool:
    return tensor.is_cuda or (tensor.device.type == "cpu" and torch.backends.mkl.is_available())


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, structure: Structure, x: Tensor, weight: Tensor) -> Tensor:
        ctx.structure = structure
        ctx.save_for_backward(x, weight)
        if _has_kernels(x):  # into an empty result; ``matrix @ x`` first fills one with zeros and copies it
            return x.new_empty(structure.by_target.size[0], x.shape[1]).addmm_(structure.by_target.matrix(weight), x, beta=0.0)
        out = x.new_zeros(structure.by_target.size[0], x.shape[1])
        return out.index_add_(0, structure.target, x[structure.source] * weight[:, None])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor | None, Tensor | None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        grad_x = _weighted_sum(ctx.structure.transposed(), grad, weight) if ctx.needs_input_grad[1] else None
        grad_weight = _sampled_dot(ctx.structure, x, grad) if ctx.needs_input_grad[2] else None
        return None, grad_x, grad_weight


class _SampledDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, structure: Structure, x: Tensor, y: Tensor) -> Tensor:
        ctx.structure = structure
        ctx.save_for_backward(x, y)
        if not _has_kernels(x):
            return (x[structure.source] * y[structure.target]).sum(-1)
        csr = structure.by_target
        pattern = csr.matrix(x.new_zeros(csr.indices.shape[0]))
        dots = torch.sparse.sampled_addmm(pattern, y.contiguous(), x.t(), beta=0.0).values()
        return dots if csr.order is None else torch.empty_like(dots).index_copy_(0, csr.order, dots)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor | None, Tensor | None]:
        (grad,) = grads
        x, y = ctx.saved_tensors
        grad_x = _weighted_sum(ctx.structure.transposed(), y, grad) if ctx.needs_input_grad[1] else None
        grad_y = _weighted_sum(ctx.structure, x, grad) if ctx.needs_input_grad[2] else None
        return None, grad_x, grad_y


_weighted_sum: Callable[[Structure, Tensor, Tensor], Tensor] = _WeightedSum.apply
_sampled_dot: Callable[[Structure, Tensor, Tensor], Tensor] = _SampledDot.apply


def _in_32_bits(product: Callable[[Structure, Tensor, Tensor], Tensor], structure: Structure, x: Tensor, y: Tensor) -> Tensor:
    """Compute a product outside mixed precision, because the sparse kernels do not support 16-bit numbers."""
    if not torch.is_autocast_enabled(x.device.type):
        return product(structure, x, y)
    x, y = (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in (x, y))
    with torch.autocast(x.device.type, enabled=False):
        return product(structure, x, y)


def weighted_sum(edge_index: Tensor, x: Tensor, weight: Tensor | None = None, *, num_targets: int | None = None) -> Tensor:
    r"""Sum the vectors of every node's neighbours, :math:`\mathbf{y}_i = \sum_{j \to i} w_{ji} \mathbf{x}_j`.

    Args:
        edge_index: Source and target of every edge; an ``EdgeIndex`` is grouped once, a plain tensor on every call.
        x: Vectors of the sources.
        weight: One weight per edge, differentiable (default: ones).
        num_targets: Number of targets (default: that of the ``EdgeIndex``, or else the number of sources).

    Shapes:
        - **input:** edge_index ``[2, E]``, x ``[N_source, D]``, weight ``[E]``
        - **output:** ``[N_target, D]``

    >>> weighted_sum(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 10.0]))
    tensor([[ 0.],
            [21.]])
    """
    if num_targets is None:
        num_targets = edge_index.get_sparse_size(1) if isinstance(edge_index, EdgeIndex) else x.shape[0]
    structure = structure_of(edge_index, x.shape[0], num_targets)
    if weight is None:
        weight = x.new_ones(edge_index.shape[1])
    return _in_32_bits(_weighted_sum, structure, x, weight)


def sampled_dot(edge_index: Tensor, x: Tensor, y: Tensor) -> Tensor:
    r"""Compute inner products along edges, :math:`s_{ji} = \langle \mathbf{x}_j, \mathbf{y}_i \rangle`, in ``edge_index`` order.

    Args:
        edge_index: Source and target of every edge.
        x: Vectors of the sources.
        y: Vectors of the targets.

    Shapes:
        - **input:** edge_index ``[2, E]``, x ``[N_source, D]``, y ``[N_target, D]``
        - **output:** ``[E]``

    >>> sampled_dot(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]]))
    tensor([5., 6.])
    """
    return _in_32_bits(_sampled_dot, structure_of(edge_index, x.shape[0], y.shape[0]), x, y)
