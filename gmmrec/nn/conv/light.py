"""Light graph convolution: a weighted sum over neighbours and nothing else."""

from typing import cast

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor

from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Bipartite, UserItem


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


class LightPropagation(nn.Module):
    r"""K light convolutions between users and items, and the mean of all layers, layer 0 included (LightGCN, equations 3 and 4).

    .. math:: \mathbf{y} = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{A}^k \mathbf{x}

    Args:
        num_layers: K; 0 returns the input.

    Shapes:
        - **input:** x.user ``[U, D]``, x.item ``[I, D]``, and the edges both ways
        - **output:** the same shapes
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.conv = LightConv()

    def forward(self, x: UserItem, edges: Bipartite) -> UserItem:
        """Propagates, then averages."""
        users, items = x
        user_sum, item_sum = x
        for _ in range(self.num_layers):
            users, items = self.conv((items, users), *edges.to_user), self.conv((users, items), *edges.to_item)
            user_sum, item_sum = user_sum + users, item_sum + items
        scale = 1 / (self.num_layers + 1)
        return UserItem(scale * user_sum, scale * item_sum)
