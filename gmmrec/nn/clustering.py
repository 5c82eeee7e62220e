r"""Soft clusters of nodes: assignment to prototypes, degrees inside a cluster, and clustering losses.

The rows of an assignment :math:`\mathbf{Q}` ``[N, K]`` sum to 1. No tensor here is larger than the assignment or the edges.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Relation


class PrototypeAssignment(nn.Module):
    r"""Assignment of vectors to clusters by similarity to trainable prototypes.

    .. math:: \mathbf{q}_v = \operatorname{softmax}_k \big( \langle \mathbf{x}_v, \boldsymbol{\mu}_k \rangle / \tau \big)

    Args:
        dim: Width of the vectors.
        num_clusters: K.
        temperature: :math:`\tau`; small values sharpen, large values smooth.
        hard: Assign every node to its best cluster only, with the gradients of the soft assignment (straight-through).

    Shapes:
        - **input:** ``[N, dim]``
        - **output:** ``[N, K]``, rows sum to 1
    """

    def __init__(self, dim: int, num_clusters: int, *, temperature: float = 0.5, hard: bool = False) -> None:
        super().__init__()
        self.temperature, self.hard = temperature, hard
        self.prototypes = nn.Parameter(torch.empty(num_clusters, dim))
        nn.init.normal_(self.prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the assignment."""
        soft = (x @ self.prototypes.t() / self.temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one_hot + (soft - soft.detach())  # in this order, so that the sum is exactly one-hot


def cluster_degrees(edges: Relation, source: Tensor, target: Tensor) -> Tensor:
    r"""Compute the weighted degree of every target inside every cluster with one sparse product.

    .. math:: D_k(i) = Q_{ik} \sum_{j \to i} a_{ji} Q_{jk}

    Args:
        edges: Edges and their weights :math:`a_{ji}` (default: ones).
        source: Assignment ``[N_source, K]``.
        target: Assignment ``[N_target, K]``.

    Returns:
        ``[N_target, K]``.

    >>> edges = Relation(torch.tensor([[0, 1], [0, 0]]))
    >>> cluster_degrees(edges, torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.5, 0.5]]))
    tensor([[0.7500, 0.2500]])
    """
    return target * weighted_sum(edges.edge_index, source, edges.weight, num_targets=target.shape[0])


def cut_loss(*relations: tuple[Relation, Tensor, Tensor]) -> Tensor:
    r"""Compute the relaxed normalised cut: -1 if no edge leaves its cluster, 0 if all do.

    .. math:: -\operatorname{Tr}(\mathbf{Q}^\top \mathbf{A} \mathbf{Q}) / \operatorname{Tr}(\mathbf{Q}^\top \mathbf{D} \mathbf{Q})

    D holds the row sums of A, the incoming weights; for a symmetric A the value lies between -1 and 0. Pass a bipartite graph as
    its two relations (bipartite spectral co-clustering; Dhillon, KDD 2001).

    Args:
        *relations: Weighted edges, and the assignments of their sources ``[N_source, K]`` and targets ``[N_target, K]``.

    >>> edges = Relation(torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]))
    >>> q = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> cut_loss((edges, q, q)), cut_loss((edges, q[[0, 2, 1, 3]], q[[0, 2, 1, 3]]))
    (tensor(-1.), tensor(-0.))
    """
    inside, total = [], []
    for edges, source, target in relations:
        inside.append(cluster_degrees(edges, source, target).sum())
        degree = weighted_sum(edges.edge_index, source.new_ones(source.shape[0], 1), edges.weight, num_targets=target.shape[0])
        total.append((degree * target.square()).sum())
    return -torch.stack(inside).sum() / torch.stack(total).sum().clamp(min=torch.finfo(total[0].dtype).tiny)


def balance_loss(assignment: Tensor) -> Tensor:
    r"""Measure how unbalanced clusters are: 0 for hard clusters of equal size, always below the root of 2.

    .. math:: \| \mathbf{Q}^\top \mathbf{Q} / \| \mathbf{Q}^\top \mathbf{Q} \|_F - \mathbf{I} / \sqrt{K} \|_F

    Source: Bianchi et al., *Spectral Clustering with Graph Neural Networks for Graph Pooling*, ICML 2020, section 3.

    Args:
        assignment: ``[N, K]``.

    >>> balance_loss(torch.eye(2)[[0, 1, 1, 0]]), balance_loss(torch.eye(2)[[0, 0, 0, 0]])
    (tensor(0.), tensor(0.7654))
    """
    overlap = assignment.t() @ assignment  # [K, K]
    equal = torch.eye(overlap.shape[0], dtype=overlap.dtype, device=overlap.device) / overlap.shape[0] ** 0.5
    return cast(Tensor, torch.linalg.matrix_norm(overlap / torch.linalg.matrix_norm(overlap) - equal))


def sharpening_loss(assignment: Tensor) -> Tensor:
    r"""Compute the mean over nodes of ``KL(P || Q)``; the fixed target P is Q squared, divided by the size of each cluster.

    It sharpens assignments without emptying clusters (Xie et al., *Unsupervised Deep Embedding for Clustering Analysis*, ICML 2016,
    equations 2 and 3).

    Args:
        assignment: ``[N, K]``, soft.

    >>> sharpening_loss(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    tensor(0.)
    """
    tiny = torch.finfo(assignment.dtype).tiny
    log = assignment.clamp(min=tiny).log()
    with torch.no_grad():
        target = assignment.square() / assignment.sum(0).clamp(min=tiny)
        target = target / target.sum(-1, keepdim=True)
        log_target = target.clamp(min=tiny).log()
    return (target * (log_target - log)).sum(-1).mean()
