"""The part of a set of edges that ends at some nodes."""

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gmmrec.nn.propagate import structure_of


def incoming_edges(edge_index: Tensor, targets: Tensor, sizes: tuple[int, int]) -> EdgeIndex:
    """The edges that end at ``targets``, which are numbered anew by their place there.

    Where only some outputs of a graph layer are wanted, run it on these edges: sources are all there, targets are the wanted ones.

    Args:
        edge_index: Source and target of every edge ``[2, E]``; best an ``EdgeIndex``, which is grouped once.
        targets: Nodes ``[n]`` in any order; one that repeats has its edges repeated.
        sizes: Number of sources and of targets.

    Returns:
        Edges ``[2, E']`` between all sources and ``n`` targets, sorted by target.

    >>> incoming_edges(torch.tensor([[0, 1, 0], [0, 0, 2]]), torch.tensor([2, 1, 0]), (2, 3)).as_tensor()
    tensor([[0, 0, 1],
            [0, 2, 2]])
    """
    indptr, source, _, _ = structure_of(edge_index, *sizes).by_target
    begin, end = indptr[targets].long(), indptr[targets + 1].long()
    count = end - begin
    target = torch.arange(len(targets), device=targets.device).repeat_interleave(count)
    ends = count.cumsum(0)
    place = torch.arange(len(target), device=targets.device) - (ends - count - begin)[target]
    return EdgeIndex(torch.stack([source[place].long(), target]), sparse_size=(sizes[0], len(targets)), sort_order="col")
