"""HCGCN's encoder of the interactions: a light first hop, and further hops inside clusters of users and items together."""

from torch import nn

from gmmrec.nn.clustering import PrototypeAssignment, cluster_degrees
from gmmrec.nn.conv.cluster import cluster_weights
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.relations import Bipartite, Relation, UserItem


class HCGCNEncoder(nn.Module):
    r"""Propagation between users and items that share clusters (HCGCN, ACM MM 2022; a reconstruction), doi:10.1145/3503161.3548119.

    .. math::
        \mathbf{E}^{(1)} = \hat{\mathbf{A}} \mathbf{E}^{(0)}, \qquad
        \mathbf{E}^{(l+1)} = \sum_k \operatorname{diag}(\mathbf{Q}_{\cdot k}) \mathbf{A}_k \mathbf{E}^{(l)} \;\; (l \geq 1), \qquad
        \mathbf{E} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{E}^{(l)}

    Users and items are assigned to one set of prototypes by :math:`\mathbf{E}^{(0)}`, anew at every call. The degrees inside
    clusters come from the edges at hand. In a sampled subgraph they are right wherever all neighbours were drawn; the first hop
    needs those neighbours anyway, so L hops, as for any model of L layers, give the seeds the vectors of the whole graph.

    Args:
        dim: Width of the vectors.
        num_clusters: K; with 1 this is LightGCN.
        num_layers: L.
        temperature: Of the assignment.
        hard: Whether a node belongs to its best cluster alone.

    Shapes:
        - **input:** x.user ``[U, dim]``, x.item ``[I, dim]``, and the edges both ways
        - **output:** the same shapes
    """

    def __init__(
        self, dim: int, *, num_clusters: int = 8, num_layers: int = 2, temperature: float = 0.5, hard: bool = False
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.assign = PrototypeAssignment(dim, num_clusters, temperature=temperature, hard=hard)
        self.conv = LightConv()

    def assignment(self, x: UserItem) -> UserItem:
        """Clusters of users ``[U, K]`` and items ``[I, K]``, by the same prototypes."""
        return UserItem(self.assign(x.user), self.assign(x.item))

    def forward(self, x: UserItem, edges: Bipartite, assignment: UserItem | None = None) -> UserItem:
        """Propagates, then averages; ``assignment`` saves making it where the caller has it already."""
        to_user, to_item = edges.to_user, edges.to_item
        users, items = x
        user_sum, item_sum = x
        for layer in range(self.num_layers):
            if layer == 1:
                to_user, to_item = self._inside_clusters(edges, self.assignment(x) if assignment is None else assignment)
            users, items = self.conv((items, users), *to_user), self.conv((users, items), *to_item)
            user_sum, item_sum = user_sum + users, item_sum + items
        scale = 1 / (self.num_layers + 1)
        return UserItem(scale * user_sum, scale * item_sum)

    def _inside_clusters(self, edges: Bipartite, q: UserItem) -> tuple[Relation, Relation]:
        """Both relations with the weights of the hops after the first, which are the same for all of them."""
        by_item, by_user = Relation(edges.to_user.edge_index), Relation(edges.to_item.edge_index)  # A, not normalised
        degree = UserItem(cluster_degrees(by_item, q.item, q.user), cluster_degrees(by_user, q.user, q.item))
        to_user = cluster_weights(by_item, (q.item, q.user), (degree.item, degree.user))
        to_item = cluster_weights(by_user, (q.user, q.item), (degree.user, degree.item))
        return Relation(by_item.edge_index, to_user), Relation(by_user.edge_index, to_item)
