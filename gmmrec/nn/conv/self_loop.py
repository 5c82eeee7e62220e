"""Propagation in which a node is its own neighbour."""

import torch
from torch import Tensor, nn

from gmmrec.nn.propagate import structure_of, weighted_sum
from gmmrec.nn.relations import Bipartite, UserItem


class SelfLoopPropagation(nn.Module):
    r"""K means over neighbours and the node itself, and the mean of all layers: LATTICE's form of LightGCN.

    .. math::
        \mathbf{y} = \frac{1}{K + 1} \sum_{k=0}^{K} \big( \mathbf{D}^{-1} (\mathbf{A} + \mathbf{I}) \big)^k \mathbf{x}

    Rows of the operator sum to 1. Neighbours are counted in the edges given, whose weights are not used.

    Args:
        num_layers: K; 0 returns the input.

    Shapes:
        - **input:** x.user ``[U, D]``, x.item ``[I, D]``, and the edges both ways
        - **output:** the same shapes

    >>> from gmmrec.nn.relations import Relation
    >>> edge_index = torch.tensor([[0], [0]])
    >>> edges = Bipartite(Relation(edge_index), Relation(edge_index), UserItem(torch.ones(1), torch.ones(1)))
    >>> SelfLoopPropagation(1)(UserItem(torch.tensor([[4.0]]), torch.tensor([[8.0]])), edges)
    UserItem(user=tensor([[5.]]), item=tensor([[7.]]))
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers

    def forward(self, x: UserItem, edges: Bipartite) -> UserItem:
        """Propagates, then averages."""
        users, items = x
        if not self.num_layers:
            return x
        user_share = _share(edges.to_user.edge_index, items, users)
        item_share = _share(edges.to_item.edge_index, users, items)
        user_sum, item_sum = x
        for _ in range(self.num_layers):
            users, items = (
                _mean(edges.to_user.edge_index, items, users, *user_share),
                _mean(edges.to_item.edge_index, users, items, *item_share),
            )
            user_sum, item_sum = user_sum + users, item_sum + items
        scale = 1 / (self.num_layers + 1)
        return UserItem(scale * user_sum, scale * item_sum)


def _share(edge_index: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """1 through the number of neighbours and one more: of every target ``[N, 1]`` and of every edge ``[E]``."""
    structure = structure_of(edge_index, source.shape[0], target.shape[0])
    share = (structure.by_target.indptr.diff() + 1).to(target.dtype).reciprocal()
    return share[:, None], share.index_select(0, structure.target)


def _mean(edge_index: Tensor, source: Tensor, target: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    return torch.addcmul(weighted_sum(edge_index, source, weight, num_targets=target.shape[0]), target, share)
