"""A graph that is learned: the nearest neighbours of items in a projection that is trained."""

import torch
from torch import Tensor, nn

from gmmrec.nn.nearest import knn_excluding_self
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.propagate import sampled_dot


class LearnedItemGraph(nn.Module):
    r"""Top-k cosine graph of projected features (Zhang et al., ACM MM 2021), https://arxiv.org/abs/2104.09036.

    .. math::
        \tilde{\mathbf{f}}_i = \mathbf{W} \mathbf{f}_i + \mathbf{b}, \qquad
        A_{ij} = \cos(\tilde{\mathbf{f}}_i, \tilde{\mathbf{f}}_j) \text{ for the } k \text{ nearest } j \text{ of } i
            \text{, itself included, else } 0

    Which pairs are kept is searched block by block without gradients; the similarities of these pairs alone are then computed anew
    with gradients. The two steps are :meth:`search` and :meth:`similarity`, for whoever keeps pairs longer than similarities.

    Args:
        in_channels: Width of the features, F.
        out_channels: Width of the projection.
        k: Neighbours an item has, itself included; all there are where fewer are present.

    Shapes:
        - **input:** features ``[I, F]``, present ``[I]`` (which items have features; None: all)
        - **output:** edge_index ``[2, E]`` from a neighbour to the item, sorted by item, the item itself first, and cosines ``[E]``

    >>> graph = LearnedItemGraph(3, 2, k=2)
    >>> edge_index, cosine = graph(torch.rand(5, 3))
    >>> edge_index[1].tolist(), cosine.requires_grad
    ([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], True)
    """

    def __init__(self, in_channels: int, out_channels: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.project = nn.Linear(in_channels, out_channels)

    def forward(self, features: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Searches, then compares."""
        edge_index = self.search(features, present)
        return edge_index, self.similarity(features, edge_index)

    @torch.no_grad()
    def search(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        """The pairs that are kept ``[2, E]``; items without features are in none. Never holds ``[I, I]``."""
        rows = torch.arange(len(features), device=features.device) if present is None else present.nonzero().flatten()
        vectors, count = unit_rows(self.project(features))[rows], max(0, min(self.k, len(rows)) - 1)
        others = torch.cat([rows.new_empty(0, count), *(position for _, position in knn_excluding_self(vectors, count))])
        near = torch.cat([torch.arange(len(rows), device=rows.device)[:, None], others], dim=1)
        return torch.stack([rows[near].flatten(), rows.repeat_interleave(near.shape[1])])

    def similarity(self, features: Tensor, edge_index: Tensor) -> Tensor:
        """Cosines of pairs ``[E]``, with gradients for the projection."""
        vectors = unit_rows(self.project(features))
        return sampled_dot(edge_index, vectors, vectors)
