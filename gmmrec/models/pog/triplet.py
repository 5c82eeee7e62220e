"""Triplet sampling and margin loss: an item is nearer to one of its category than to one of another category."""

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet_margin(anchor: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    r"""Return the mean of :math:`[\lVert a - s \rVert - \lVert a - o \rVert + m]_+` over triplets.

    Args:
        anchor: Vectors ``[n, D]``.
        same: Vectors of the anchor's category ``[n, D]``.
        other: Vectors of another category ``[n, D]``.
        margin: Margin m between the two distances.

    >>> triplet_margin(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.5]]), 0.5)
    tensor(1.)
    """
    near, far = (torch.linalg.vector_norm(anchor - x, dim=-1) for x in (same, other))
    return F.relu(near - far + margin).mean()


def draw_triplets(kind: Tensor, num_anchors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw triplets from PyTorch's global generator: positions of anchors, of same-kind and of other-kind items ``[n]``.

    Args:
        kind: Category of every item ``[N]``, -1 if unknown: such items are in no triplet.
        num_anchors: Maximum number of anchors; items without another of their category, or of any other, are not anchors.

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
