r"""Soft clusters of nodes: assignment to prototypes, degrees inside a cluster, and losses that want clusters to be good ones.

An assignment :math:`\mathbf{Q}` ``[N, K]`` has rows that sum to 1. Nothing here is larger than that, or than the edges.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Relation


class PrototypeAssignment(nn.Module):
    r"""Assigns vectors to clusters by their likeness to trainable prototypes.

    .. math:: \mathbf{q}_v = \operatorname{softmax}_k \big( \langle \mathbf{x}_v, \boldsymbol{\mu}_k \rangle / \tau \big)

    Args:
        dim: Width of the vectors.
        num_clusters: K.
        temperature: :math:`\tau`; small values decide, great ones blur.
        hard: Give every node to its best cluster alone; gradients are those of the soft assignment (straight-through).

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
        """Assigns."""
        soft = (x @ self.prototypes.t() / self.temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one_hot + (soft - soft.detach())  # in this order, so that the sum is exactly one-hot


def cluster_degrees(edges: Relation, source: Tensor, target: Tensor) -> Tensor:
    r"""Weighted degree of every target inside every cluster, by one sparse product.

    .. math:: D_k(i) = Q_{ik} \sum_{j \to i} a_{ji} Q_{jk}

    Args:
        edges: Edges and their weights :math:`a_{ji}` (ones where there are none).
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
    r"""The relaxed normalised cut: -1 where no edge leaves its cluster, 0 where all do.

    .. math:: -\operatorname{Tr}(\mathbf{Q}^\top \mathbf{A} \mathbf{Q}) / \operatorname{Tr}(\mathbf{Q}^\top \mathbf{D} \mathbf{Q})

    D holds the row sums of A, the weights that come in; for a symmetric A the value lies between -1 and 0. A bipartite graph is
    both of its relations together (bipartite spectral co-clustering; Dhillon, KDD 2001).

    Args:
        *relations: Edges with their weights, the assignment of their sources ``[N_source, K]``, and of their targets
            ``[N_target, K]``.

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
    r"""How unequal clusters are: 0 for hard ones of equal size, below the root of 2 always.

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
    r"""``KL(P || Q)``, the mean over nodes, to a target that is Q squared, divided by the size of each cluster, and held fixed.

    It makes assignments more certain without emptying clusters (Xie et al., *Unsupervised Deep Embedding for Clustering Analysis*,
    ICML 2016, equations 2 and 3).

    Args:
        assignment: ``[N, K]``, soft.

    >>> sharpening_loss(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    tensor(0.)
    """
    tiny = torch.finfo(assignment.dtype).tiny
    log = assignment.clamp(min=tiny).log()
    with torch.no_grad():
        share = assignment.square() / assignment.sum(0).clamp(min=tiny)
        share = share / share.sum(-1, keepdim=True)
        log_share = share.clamp(min=tiny).log()
    return (share * (log_share - log)).sum(-1).mean()
