"""HCGCN's interaction encoder: a light first hop, then hops within joint clusters of users and items."""

from torch import nn

from gmmrec.nn.clustering import PrototypeAssignment, cluster_degrees
from gmmrec.nn.conv.cluster import cluster_weights
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.relations import Bipartite, Relation, UserItem


class HCGCNEncoder(nn.Module):
    r"""Propagation within joint clusters of users and items (HCGCN, ACM MM 2022; a reconstruction), doi:10.1145/3503161.3548119.

    .. math::
        \mathbf{E}^{(1)} = \hat{\mathbf{A}} \mathbf{E}^{(0)}, \qquad
        \mathbf{E}^{(l+1)} = \sum_k \operatorname{diag}(\mathbf{Q}_{\cdot k}) \mathbf{A}_k \mathbf{E}^{(l)} \;\; (l \geq 1), \qquad
        \mathbf{E} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{E}^{(l)}

    Every call assigns users and items to one set of prototypes by :math:`\mathbf{E}^{(0)}`. Degrees within clusters are counted in
    the given edges, so in a sampled subgraph they are exact for nodes whose neighbours were all sampled. The first hop needs those
    neighbours anyway: with L hops, as for any model of L layers, the seeds get the same vectors as on the whole graph.

    Args:
        dim: Vector width.
        num_clusters: K; with 1 this is LightGCN.
        num_layers: L.
        temperature: Temperature of the assignment.
        hard: Whether to assign every node to its best cluster only.

    Shapes:
        - **input:** x.user ``[U, dim]``, x.item ``[I, dim]``, and the edges in both directions
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
        """Assign users ``[U, K]`` and items ``[I, K]`` to clusters by the same prototypes."""
        return UserItem(self.assign(x.user), self.assign(x.item))

    def forward(self, x: UserItem, edges: Bipartite, assignment: UserItem | None = None) -> UserItem:
        """Propagate, then average the layers; ``assignment`` is computed unless given."""
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
        """Return both relations with the edge weights of all hops after the first."""
        by_item, by_user = Relation(edges.to_user.edge_index), Relation(edges.to_item.edge_index)  # A, not normalised
        degree = UserItem(cluster_degrees(by_item, q.item, q.user), cluster_degrees(by_user, q.user, q.item))
        to_user = cluster_weights(by_item, (q.item, q.user), (degree.item, degree.user))
        to_item = cluster_weights(by_user, (q.user, q.item), (degree.user, degree.item))
        return Relation(by_item.edge_index, to_user), Relation(by_user.edge_index, to_item)
