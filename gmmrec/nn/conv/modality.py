"""Modality convolution, the aggregation of MMGCN."""

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing

from gmmrec.errors import UsageError
from gmmrec.nn.propagate import structure_of, weighted_sum

SPARSE_COST = 10  # time of a multiplication in a sparse product, relative to one in a dense product


class ModalityConv(MessagePassing):
    r"""Mean or maximum of messages (Wei et al., ACM MM 2019, equations 2 and 3), doi:10.1145/3343031.3351034.

    .. math::
        \mathbf{x}'_i = \frac{1}{|\mathcal{N}(i)|} \sum_{j \in \mathcal{N}(i)} \mathbf{W}_1 \mathbf{x}_j
        \qquad \text{or} \qquad
        \mathbf{x}'_i = \max_{j \in \mathcal{N}(i)} \mathbf{W}_1 \mathbf{x}_j

    The activation is left to the caller. No bias, no self-loops. Neighbours are counted in ``edge_index``, so in a sampled subgraph
    the mean is over the sampled neighbours. As the mean is linear, :math:`\mathbf{W}_1` is applied before or after it, whichever is
    cheaper.

    Args:
        in_channels: Input width.
        out_channels: Output width.
        aggr: ``"mean"`` or ``"max"``.
        fused: Whether to compute the mean as one sparse product (the default), which holds no ``[E, D]`` tensor. False gathers and
            scatters messages, the readable reference. The maximum is always gathered.

    Shapes:
        - **input:** x ``[N, in_channels]`` or a pair ``([N_source, in_channels], [N_target, in_channels])`` for a bipartite graph,
          edge_index ``[2, E]`` in any order (an ``EdgeIndex`` is grouped once, a plain tensor on every call)
        - **output:** ``[N_target, out_channels]``; a node without incoming edges yields zeros

    >>> conv = ModalityConv(2, 2)
    >>> _ = conv.lin.weight.data.copy_(torch.eye(2))
    >>> conv(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0, 1], [2, 2]]))[2].tolist()
    [2.0, 2.0]
    """

    def __init__(self, in_channels: int, out_channels: int, *, aggr: Literal["mean", "max"] = "mean", fused: bool = True) -> None:
        if aggr not in ("mean", "max"):
            raise UsageError(f"aggr must be 'mean' or 'max', but is {aggr!r}")
        super().__init__(aggr=aggr)
        self.in_channels, self.out_channels, self.fused = in_channels, out_channels, fused and aggr == "mean"
        self.lin = nn.Linear(in_channels, out_channels, bias=False)  # W1
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the weights to Xavier-normal values."""
        super().reset_parameters()
        nn.init.xavier_normal_(self.lin.weight)

    def forward(self, x: Tensor | tuple[Tensor, Tensor], edge_index: Tensor) -> Tensor:
        """Transform and aggregate."""
        source, target = x if isinstance(x, tuple) else (x, x)
        sizes = (source.shape[0], target.shape[0])
        if not self.fused:
            return cast(Tensor, self.propagate(edge_index, x=(self.lin(source), target), size=sizes))
        if not isinstance(edge_index, EdgeIndex):
            edge_index = EdgeIndex(edge_index.contiguous(), sparse_size=sizes)  # grouped once per call
        before, after = (n * self.in_channels * self.out_channels for n in sizes)  # cost of W1 on either side
        edges = SPARSE_COST * edge_index.shape[1]
        if before + edges * self.out_channels <= after + edges * self.in_channels:
            return _mean(self.lin(source), edge_index, sizes)
        return cast(Tensor, self.lin(_mean(source, edge_index, sizes)))

    def message(self, x_j: Tensor) -> Tensor:
        """Return the message of every edge (reference path)."""
        return x_j

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, aggr={self.aggr!r})"


def _mean(source: Tensor, edge_index: Tensor, sizes: tuple[int, int]) -> Tensor:
    weight = mean_weight(edge_index, *sizes, dtype=source.dtype)
    return weighted_sum(edge_index, source, weight, num_targets=sizes[1])


def mean_weight(edge_index: Tensor, num_sources: int, num_targets: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the edge weights ``[E]`` that turn a weighted sum into a mean: 1 over the in-degree of the edge's target.

    >>> mean_weight(torch.tensor([[0, 1, 1], [0, 0, 1]]), 2, 2)
    tensor([0.5000, 0.5000, 1.0000])
    """
    structure = structure_of(edge_index, num_sources, num_targets)
    count = structure.by_target.indptr.diff().clamp(min=1)
    return count.to(dtype).reciprocal().index_select(0, structure.target)
