"""Triplets: a thing is nearer to one of its own kind than to one of another kind."""

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet_margin(anchor: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    r"""Mean of :math:`[\lVert a - s \rVert - \lVert a - o \rVert + m]_+` over triplets.

    Args:
        anchor: Vectors ``[n, D]``.
        same: Of the same kind ``[n, D]``.
        other: Of another kind ``[n, D]``.
        margin: By how much the other must be further away.

    >>> triplet_margin(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.5]]), 0.5)
    tensor(1.)
    """
    near, far = (torch.linalg.vector_norm(anchor - x, dim=-1) for x in (same, other))
    return F.relu(near - far + margin).mean()


def draw_triplets(kind: Tensor, num_anchors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of anchors, of one of the same kind each, and of one of another kind ``[n]``, drawn by torch's own state.

    Args:
        kind: Of every thing ``[N]``, -1 where it is not known: these are in no triplet.
        num_anchors: At most; things that have none of their kind, or no others, are no anchors.

    >>> anchor, same, other = draw_triplets(torch.tensor([5, 5, 7, -1]), 10)
    >>> sorted(zip(anchor.tolist(), same.tolist(), other.tolist()))
    [(0, 1, 2), (1, 0, 2)]
    """
    known = torch.nonzero(kind >= 0).flatten()
    anchor = known[torch.randperm(len(known), device=kind.device)[:num_anchors]]
    is_same = kind[anchor][:, None] == kind[known]
    chance = torch.rand(is_same.shape, device=kind.device) + 0.5
    same = (chance * (is_same & (anchor[:, None] != known))).max(1)
    other = (chance * ~is_same).max(1)
    both = (same.values > 0) & (other.values > 0)
    return anchor[both], known[same.indices[both]], known[other.indices[both]]
