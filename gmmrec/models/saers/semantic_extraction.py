"""Semantic extraction network of SAERS, which localises attributes in images, on region grids instead of pixels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.choice import check_choice

Slope = Literal["weight", "gradient"]
Pool = Literal["mean", "max"]

UNLABELLED = -1
"""Label of an attribute without annotation."""


class SemanticExtraction(nn.Module):
    r"""One classifier per attribute on a shared feature map; class activation maps localise the attributes.

    .. math::
        y^{ac} = \mathbf{v}^{ac\top} \frac{1}{P} \sum_p \mathbf{A}_p + b^{ac}, \qquad
        M^a_p = \mathrm{ReLU} \Big( \sum_c w^a_c A^c_p \Big), \qquad
        w^a_c = \frac{1}{P} \sum_p \frac{\partial y^a}{\partial A^c_p}

    with P regions, channels c and the logit :math:`y^a` of the target class. After Hou et al., IJCAI 2019 (SAERS, arXiv
    1905.12862), a RECONSTRUCTION from its abstract: the paper trains a convolutional network on pixels; here the feature map of a
    frozen one is given as a table of regions, and only layers on top are trained.

    Args:
        region_dim: Width of a region.
        num_classes: Number of classes of every attribute.
        grid: Height and width of the map.
        hidden: Channels of two convolutions, 1 x 1 and 3 x 3, between the regions and the classifiers; 0 for none.

    Shapes:
        - **input:** regions ``[N, H * W, region_dim]``, row by row from the top left
        - **output:** logits ``[N, C]`` for every attribute
    """

    def __init__(self, region_dim: int, num_classes: Sequence[int], grid: tuple[int, int], *, hidden: int = 0) -> None:
        super().__init__()
        self.grid = grid
        self.trunk = nn.Sequential()
        if hidden:
            self.trunk.extend((nn.Conv2d(region_dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU()))
        self.heads = nn.ModuleList(nn.Linear(hidden or region_dim, count) for count in num_classes)

    def forward(self, regions: Tensor) -> list[Tensor]:
        """Return the class logits of every attribute."""
        return self.logits(self.maps(regions))

    def maps(self, regions: Tensor) -> Tensor:
        """Compute the feature map that the classifiers read ``[N, channels, H, W]``.

        Raises:
            UsageError: The regions do not fill the grid.
        """
        height, width = self.grid
        if regions.shape[1] != height * width:
            raise UsageError(
                f"a grid of {height} x {width} needs {height * width} regions, but there are {regions.shape[1]}; "
                "use the grid with which the regions were extracted"
            )
        maps: Tensor = self.trunk(regions.transpose(1, 2).unflatten(2, (height, width)))
        return maps

    def logits(self, maps: Tensor) -> list[Tensor]:
        """Apply global average pooling, then the classifiers."""
        pooled = maps.mean((2, 3))
        return [head(pooled) for head in self.heads]

    def activation_maps(self, maps: Tensor, classes: Tensor, *, by: Slope = "weight") -> Tensor:
        """Compute class activation maps, one class per attribute; nonnegative.

        Args:
            maps: Output of :meth:`maps`, ``[N, channels, H, W]``.
            classes: One class per attribute ``[N, A]``.
            by: ``gradient`` differentiates the logits, as the paper does; ``weight`` uses the closed form for average pooling and a
                linear map, the class weights divided by H W, in one product.

        Returns:
            ``[N, A, H, W]``.
        """
        check_choice(Slope, by=by)
        if by == "weight":
            chosen = torch.stack(
                [head.get_parameter("weight")[c] for head, c in zip(self.heads, classes.unbind(1), strict=True)], 1
            )
            slope = chosen / maps[0, 0].numel()  # [N, A, channels]
        else:
            slope = self._mean_gradients(maps, classes)
        return torch.relu(torch.einsum("nac,nchw->nahw", slope, maps)).detach()

    def _mean_gradients(self, maps: Tensor, classes: Tensor) -> Tensor:
        """Gradient of every attribute's logit, averaged over the map ``[N, A, channels]``."""
        with torch.enable_grad():
            leaf = maps.detach().requires_grad_()
            slopes = []
            for logits, c in zip(self.logits(leaf), classes.unbind(1), strict=True):
                (gradient,) = torch.autograd.grad(logits.gather(1, c[:, None]).sum(), leaf)  # images are independent
                slopes.append(gradient.mean((2, 3)))
        return torch.stack(slopes, 1)


def labelled_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    r"""Compute the cross-entropy, summed over labelled attributes and averaged over images.

    .. math:: -\frac{1}{N} \sum_n \sum_{a \in \mathrm{labelled}(n)} \ln p(y_n^a \mid \mathbf{x}_n)

    Args:
        logits: ``[N, C]`` for every attribute.
        labels: Classes ``[N, A]``; :data:`UNLABELLED` where unknown.

    >>> labelled_loss([torch.zeros(2, 2), torch.zeros(2, 3)], torch.tensor([[0, -1], [1, -1]]))        # ln 2
    tensor(0.6931)
    """
    if labels.shape[1] != len(logits):
        raise UsageError(f"labels need one column for each of {len(logits)} attributes, but have {labels.shape[1]}")
    terms = [
        F.cross_entropy(scores, label, ignore_index=UNLABELLED, reduction="sum")
        for scores, label in zip(logits, labels.unbind(1), strict=True)
    ]
    return torch.stack(terms).sum() / len(labels)


def largest_boxes(maps: Tensor, threshold: float = 0.2) -> Tensor:
    """Return the bounding box of the maximum and of the largest connected area above a fraction of it.

    Areas are 4-connected; of equally large ones the first is used. The maximum nearly always lies in the largest area; if it does
    not, the box is extended to include it. The box of a map without positive values is the whole map.

    Args:
        maps: ``[..., H, W]``.
        threshold: Fraction of the maximum, at least 0 and below 1.

    Returns:
        Top, left, bottom and right ``[..., 4]``; rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``.

    >>> largest_boxes(torch.tensor([[9.0, 0.0, 1.0], [8.0, 0.0, 0.0], [7.0, 5.0, 0.0]]))
    tensor([0, 0, 3, 2])
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold must be at least 0 and below 1, but is {threshold}")
    height, width = maps.shape[-2:]
    boxes = [_box(activation, threshold) for activation in maps.detach().cpu().numpy().reshape(-1, height, width)]
    return torch.tensor(boxes, dtype=torch.int64, device=maps.device).view(*maps.shape[:-2], 4)


def _box(activation: NDArray[np.float32], threshold: float) -> tuple[int, int, int, int]:
    largest = activation.max()
    if not largest > 0:
        return 0, 0, activation.shape[0], activation.shape[1]
    areas, _ = ndimage.label(activation > threshold * largest)
    inside = areas == 1 + np.bincount(areas[areas > 0] - 1).argmax()
    inside.flat[activation.argmax()] = True
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def pool_boxes(regions: Tensor, boxes: Tensor, grid: tuple[int, int], *, pool: Pool = "mean") -> Tensor:
    """Pool every box into one vector: RoI pooling with a single cell.

    Args:
        regions: ``[N, H * W, D]``, row by row.
        boxes: Output of :func:`largest_boxes`, ``[N, A, 4]``.
        grid: Height and width.
        pool: Element-wise reduction over the regions in a box.

    Returns:
        ``[N, A, D]``.

    >>> pool_boxes(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.tensor([[[0, 1, 2, 2]]]), (2, 2))
    tensor([[[3.]]])
    """
    check_choice(Pool, pool=pool)
    height, width = grid
    top, left, bottom, right = boxes.unsqueeze(-1).unbind(-2)  # [N, A, 1]
    row, column = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    in_row, in_column = (row >= top) & (row < bottom), (column >= left) & (column < right)
    inside = (in_row.unsqueeze(-1) & in_column.unsqueeze(-2)).flatten(-2)  # [N, A, H W]
    if pool == "max":
        lowest = torch.finfo(regions.dtype).min
        return torch.stack([regions.masked_fill(~box.unsqueeze(-1), lowest).amax(1) for box in inside.unbind(1)], 1)
    return inside.to(regions.dtype) @ regions / inside.sum(-1, keepdim=True)
