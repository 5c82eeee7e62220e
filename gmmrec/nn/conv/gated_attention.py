"""Gated attention convolution: the layer of MGAT."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.inits import uniform
from torch_geometric.utils import softmax

from gmmrec.nn.choice import Table
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.propagate import sampled_dot, structure_of, weighted_sum
from gmmrec.nn.segment import segment_softmax

Gate: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From a score an edge ``[E]`` and the degree of the edge's source ``[E]`` to the factor of that score ``[E]``."""


def inner_product_gate(score: Tensor, degree: Tensor) -> Tensor:
    r"""The gate of MGAT, :math:`g_{ji} = \sigma(s_{ji} / \sqrt{\deg(j)})`: a half for sources that everybody has.

    >>> inner_product_gate(torch.tensor([4.0, 4.0]), torch.tensor([1.0, 1e9]))
    tensor([0.9820, 0.5000])
    """
    return torch.sigmoid(score * degree.rsqrt())


def constant_gate(score: Tensor, degree: Tensor) -> Tensor:
    """One for every edge: plain inner-product attention.

    >>> constant_gate(torch.tensor([4.0, -4.0]), torch.tensor([1.0, 1.0]))
    tensor([1., 1.])
    """
    return torch.ones_like(score)


GATES: Mapping[str, Gate] = Table("gate", {"inner_product": inner_product_gate, "none": constant_gate})


class GatedAttentionConv(MessagePassing):
    r"""Inner-product attention over neighbours whose logits pass a gate (Tao et al., IP&M 2020), doi:10.1016/j.ipm.2020.102277.

    .. math::
        \mathbf{y}_v &= \mathbf{\Theta}^\top \mathbf{x}_v, \qquad
        s_{ji} = \langle \mathrm{LeakyReLU}(\mathbf{y}_j), \mathbf{y}_i \rangle, \qquad
        g_{ji} = \sigma \big( s_{ji} / \sqrt{\deg(j)} \big)

        a_{ji} &= \operatorname{softmax}_{j \in \mathcal{N}(i)} (s_{ji}\, g_{ji}), \qquad
        \mathbf{x}'_i = \mathrm{norm}_2 \Big( \sum_{j \in \mathcal{N}(i)} a_{ji}\, \mathbf{y}_j + \mathbf{b} \Big)

    The gate sees the degree of the source alone; leaky slope 0.01. No self-loops are added. The equations are those of the authors'
    released code.

    Args:
        in_channels: Width of the input; sources and targets share the weights.
        out_channels: Width of the output.
        gate: ``"inner_product"`` (the reference), ``"none"`` (the gate is 1), or any function of score and source degree.
        bias: Whether there is a :math:`\mathbf{b}`.
        fused: Use sparse products (the default), which hold no ``[E, D]`` tensor; False gathers and scatters messages, the readable
            reference, same numbers.

    Shapes:
        - **input:** x ``[N, in_channels]`` or a pair ``([N_source, in_channels], [N_target, in_channels])`` for a bipartite graph,
          edge_index ``[2, E]`` in any order (an ``EdgeIndex`` is grouped once, a plain tensor at every call),
          degree ``[N_source]``, counted from ``edge_index`` where not given (in a sampled subgraph give the whole graph's)
        - **output:** ``[N_target, out_channels]``, rows of length 1; a node without incoming edges yields :math:`\mathbf{b}` at
          length 1. With ``return_attention_weights=True`` a pair of that and ``(edge_index, a [E])``

    >>> conv = GatedAttentionConv(8, 4)
    >>> x, edge_index = torch.rand(3, 8), torch.tensor([[0, 1, 2], [2, 2, 0]])
    >>> out, (_, attention) = conv(x, edge_index, return_attention_weights=True)
    >>> out.shape, float((attention[0] + attention[1]).detach().round(decimals=5))
    (torch.Size([3, 4]), 1.0)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        gate: Literal["inner_product", "none"] | Gate = "inner_product",
        bias: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__(aggr="sum", node_dim=0)
        self.in_channels, self.out_channels, self.fused = in_channels, out_channels, fused
        self.gate = GATES[gate] if isinstance(gate, str) else gate
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew: Xavier-normal, the bias uniform within ``1 / sqrt(in_channels)``."""
        super().reset_parameters()
        nn.init.xavier_normal_(self.weight)
        uniform(self.in_channels, self.bias)

    @overload
    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        degree: Tensor | None = None,
        *,
        return_attention_weights: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        degree: Tensor | None = None,
        *,
        return_attention_weights: Literal[True],
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        degree: Tensor | None = None,
        *,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Transforms, attends and adds up."""
        y = (self.transform(x[0]), self.transform(x[1])) if isinstance(x, tuple) else (self.transform(x),) * 2
        out, attention = self._attend(y, edge_index, degree)
        return (out, (edge_index, attention)) if return_attention_weights else out

    def transform(self, x: Tensor) -> Tensor:
        r"""The first half, :math:`\mathbf{\Theta}^\top \mathbf{x}_v`: ``[N, in_channels]`` to ``[N, out_channels]``.

        Where the same nodes are sources of one relation and targets of another, transform them once and :meth:`attend` twice.
        """
        return x @ self.weight

    def attend(self, y: tuple[Tensor, Tensor], edge_index: Tensor, degree: Tensor | None = None) -> Tensor:
        """The second half, from transformed ``([N_source, out_channels], [N_target, out_channels])`` to the output."""
        return self._attend(y, edge_index, degree)[0]

    def _attend(self, y: tuple[Tensor, Tensor], edge_index: Tensor, degree: Tensor | None) -> tuple[Tensor, Tensor]:
        source, target = y
        index: EdgeIndex = edge_index if isinstance(edge_index, EdgeIndex) else _indexed(edge_index, y)
        if degree is None:
            degree = torch.bincount(index.as_tensor()[0], minlength=source.shape[0])
        degree = degree.to(source.dtype)
        if self.fused:
            attention = self._attention(source, target, index, degree)
            out = weighted_sum(index, source, attention, num_targets=target.shape[0])
        else:
            attention = self.edge_updater(index, y=y, degree=(degree, None))
            out = self.propagate(index, y=y, attention=attention)
        return unit_rows(out if self.bias is None else out + self.bias), attention

    def _attention(self, source: Tensor, target: Tensor, edge_index: EdgeIndex, degree: Tensor) -> Tensor:
        structure = structure_of(edge_index, source.shape[0], target.shape[0])
        score = sampled_dot(edge_index, F.leaky_relu(source), target)
        logit = score * self.gate(score, degree.index_select(0, structure.source))
        indptr, order = structure.by_target.indptr, structure.by_target.order
        if order is None:
            return segment_softmax(logit, indptr, structure.target)
        attention = segment_softmax(logit.index_select(0, order), indptr, structure.target.index_select(0, order))
        return torch.empty_like(attention).index_copy(0, order, attention)

    def edge_update(self, y_j: Tensor, y_i: Tensor, degree_j: Tensor, index: Tensor, size_i: int) -> Tensor:
        """Attention of every edge (reference path)."""
        score = (F.leaky_relu(y_j) * y_i).sum(-1)
        return cast(Tensor, softmax(score * self.gate(score, degree_j), index, num_nodes=size_i))

    def message(self, y_j: Tensor, attention: Tensor) -> Tensor:
        """One edge's contribution (reference path)."""
        return attention.view(-1, 1) * y_j

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


def _indexed(edge_index: Tensor, y: tuple[Tensor, Tensor]) -> EdgeIndex:
    """A plain tensor as an ``EdgeIndex``, so that one call groups it once."""
    return EdgeIndex(edge_index.contiguous(), sparse_size=(y[0].shape[0], y[1].shape[0]))
