"""Co-clustering convolution: a sum over neighbours, weighted by the clusters that both ends of an edge share."""

from typing import cast

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor

from gmmrec.nn.clustering import cluster_degrees
from gmmrec.nn.propagate import sampled_dot, structure_of, weighted_sum
from gmmrec.nn.relations import Relation

NodePair = Tensor | tuple[Tensor, Tensor]
"""A tensor for the nodes of a graph, or a pair for the sources and targets of a bipartite graph."""

EPSILON = 1e-7


class ClusterConv(MessagePassing):
    r"""Convolution within clusters, summed over clusters (HCGCN, Mu et al., ACM MM 2022; a reconstruction, see below).

    .. math::
        \mathbf{X}' = \sum_{k=1}^{K} \operatorname{diag}(\mathbf{Q}_{\cdot k})\, \mathbf{A}_k \mathbf{X}, \qquad
        \mathbf{A}_k = \mathbf{D}_k^{-1/2} \big( \mathbf{A} \odot \mathbf{Q}_{\cdot k} \mathbf{Q}_{\cdot k}^\top \big)
            \mathbf{D}_k^{-1/2}

    All :math:`\mathbf{A}_k` have the edges of :math:`\mathbf{A}`, so the K convolutions collapse into one with the edge weights

    .. math::
        w_{ji} = a_{ji} \sum_k \big[ Q_{ik}^2\, D_k(i)^{-1/2} \big] \big[ Q_{jk}\, D_k(j)^{-1/2} \big]

    which are inner products of width K along the edges. With one cluster this is LightGCN's convolution. The full text of the paper
    was not available: its abstract mentions convolutions within joint clusters of users and items, and the form is reconstructed.

    Args:
        fused: Whether to use sparse products (the default), which hold no ``[E, D]`` tensor. False gathers and scatters messages:
            the readable reference, with the same numbers.

    Shapes:
        - **input:** x ``[N, D]`` or a pair ``([N_source, D], [N_target, D])`` for a bipartite graph, edge_index ``[2, E]`` in any
          order (an ``EdgeIndex`` is grouped once, a plain tensor on every call), assignment ``[N, K]`` or a pair, edge_weight
          ``[E]``: A before any normalisation, ones by default
        - **output:** ``[N_target, D]``; a node without incoming edges yields zeros

    >>> x, edge_index = torch.rand(3, 4), torch.tensor([[0, 1, 2, 1], [1, 0, 1, 2]])
    >>> ClusterConv()(x, edge_index, torch.full((3, 2), 0.5)).shape
    torch.Size([3, 4])
    """

    def __init__(self, *, fused: bool = True) -> None:
        super().__init__(aggr="sum", node_dim=0)
        self.fused = fused

    def forward(
        self,
        x: NodePair,
        edge_index: Tensor,
        assignment: NodePair,
        edge_weight: Tensor | None = None,
        degree: NodePair | None = None,
    ) -> Tensor:
        """Weigh the edges and sum the messages.

        ``degree`` ``[N, K]`` (or a pair) holds the degrees within clusters, from
        :func:`~gmmrec.nn.clustering.cluster_degrees`; by default they are counted from ``edge_index``. Pass them for a bipartite
        graph, where those of the sources are counted against the direction of the edges, and for sampled subgraphs.
        """
        source, target = _as_pair(x)
        factors = cluster_factors(edge_index, assignment, edge_weight, degree)
        if self.fused:
            weight = sampled_dot(edge_index, *factors)
            weight = weight if edge_weight is None else weight * edge_weight
            return weighted_sum(edge_index, source, weight, num_targets=target.shape[0])
        return cast(Tensor, self.propagate(edge_index, x=(source, target), factor=factors, edge_weight=edge_weight))

    def message(self, x_j: Tensor, factor_j: Tensor, factor_i: Tensor, edge_weight: OptTensor) -> Tensor:
        """Compute the message of every edge (reference path)."""
        weight = (factor_j * factor_i).sum(-1)
        weight = weight if edge_weight is None else weight * edge_weight
        return weight.view(-1, 1) * x_j


def cluster_weights(edges: Relation, assignment: NodePair, degree: NodePair | None = None) -> Tensor:
    """Compute the convolution's edge weights ``[E]``, to be reused in light convolutions where layers share an assignment.

    Args:
        edges: Edges, with the weights of A before any normalisation (ones by default).
        assignment: ``[N, K]`` or a pair.
        degree: As in :class:`ClusterConv`.

    >>> edges = Relation(torch.tensor([[0, 1], [1, 0]]))
    >>> cluster_weights(edges, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))      # within a cluster; across two
    tensor([1., 1.])
    >>> cluster_weights(edges, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([0., 0.])
    """
    weight = sampled_dot(edges.edge_index, *cluster_factors(edges.edge_index, assignment, edges.weight, degree))
    return weight if edges.weight is None else weight * edges.weight


def cluster_factors(
    edge_index: Tensor, assignment: NodePair, edge_weight: Tensor | None, degree: NodePair | None
) -> tuple[Tensor, Tensor]:
    r"""Compute the two factors of an edge weight, :math:`Q_{jk} D_k(j)^{-1/2}` and :math:`Q_{ik}^2 D_k(i)^{-1/2}`."""
    source, target = _as_pair(assignment)
    if degree is None:
        to_target = cluster_degrees(Relation(edge_index, edge_weight), source, target)
        is_one_graph = isinstance(assignment, Tensor)
        degree = to_target if is_one_graph else (_outgoing(edge_index, source, target, edge_weight), to_target)
    outgoing, incoming = _as_pair(degree)
    return source * _inverse_root(outgoing), target.square() * _inverse_root(incoming)


def _outgoing(edge_index: Tensor, source: Tensor, target: Tensor, edge_weight: Tensor | None) -> Tensor:
    """Compute the sources' degrees within clusters by reversing the edges."""
    structure = structure_of(edge_index, source.shape[0], target.shape[0])
    return cluster_degrees(Relation(torch.stack([structure.target, structure.source]), edge_weight), target, source)


def _inverse_root(degree: Tensor) -> Tensor:
    """Return ``degree ** -0.5``, and 0 (not thousands) for degree 0, where hard assignments would blow up gradients."""
    return torch.where(degree > 0, (degree + EPSILON).rsqrt(), 0.0)


def _as_pair(value: NodePair) -> tuple[Tensor, Tensor]:
    return value if isinstance(value, tuple) else (value, value)
