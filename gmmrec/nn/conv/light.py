"""Light graph convolution: a weighted sum over neighbours and nothing else."""

from typing import cast

from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor

from gmmrec.nn.propagate import weighted_sum


class LightConv(MessagePassing):
    r"""One hop of LightGCN (He et al., SIGIR 2020, equation 3), https://arxiv.org/abs/2002.02126.

    .. math:: \mathbf{x}'_i = \sum_{j \to i} w_{ji}\, \mathbf{x}_j

    No weights, no bias, no activation; :math:`w_{ji}` is :math:`1 / \sqrt{\deg(i) \deg(j)}` in the paper and comes with the edges.

    Args:
        fused: Compute the sum as one sparse product (the default); False gathers and scatters messages, the readable reference.

    Shapes:
        - **input:** x ``[N, D]`` or a pair ``([N_source, D], [N_target, D])`` for a bipartite graph, edge_index ``[2, E]``,
          edge_weight ``[E]`` or None
        - **output:** ``[N_target, D]``; a node without incoming edges yields zeros
    """

    def __init__(self, *, fused: bool = True) -> None:
        super().__init__(aggr="sum")
        self.fused = fused

    def forward(self, x: Tensor | tuple[Tensor, Tensor], edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Sums neighbours."""
        source, target = x if isinstance(x, tuple) else (x, x)
        if self.fused:
            return weighted_sum(edge_index, source, edge_weight, num_targets=target.shape[0])
        return cast(Tensor, self.propagate(edge_index, x=(source, target), edge_weight=edge_weight))

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        """One edge's contribution (reference path)."""
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j
