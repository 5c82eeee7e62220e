"""Pure functions on edges: weights, co-occurrence, and dropping without replacement."""

from typing import Literal

import torch
from torch import Tensor


def normalize(
    edge_index: Tensor,
    sizes: tuple[int, int],
    weight: Tensor | None = None,
    *,
    degrees: Literal["both_ends", "incoming"] = "both_ends",
) -> Tensor:
    r"""Symmetric normalisation, :math:`w_{ji} / \sqrt{d_j d_i}` for an edge from j to i.

    Args:
        edge_index: Sources and targets ``[2, E]``.
        sizes: Number of source and of target nodes.
        weight: A weight an edge ``[E]``, at least 0; ones where not given.
        degrees: ``"both_ends"``: the source's weights going out and the target's coming in, the reading for two node types.
            ``"incoming"``: at either end the weights coming in, the reading for k-NN graphs of one node type, where a row of the
            adjacency holds a node's own neighbours and degrees are row sums (LATTICE, FREEDOM).

    Returns:
        Weights ``[E]`` (float32); 0, never NaN, where an end has degree 0.

    >>> normalize(torch.tensor([[0, 0, 1], [0, 1, 1]]), (2, 2))
    tensor([0.7071, 0.5000, 0.7071])
    """
    source, target = edge_index[0], edge_index[1]
    weight = torch.ones(source.shape, device=source.device) if weight is None else weight.float()
    incoming = weight.new_zeros(sizes[1]).index_add_(0, target, weight)
    outgoing = incoming if degrees == "incoming" else weight.new_zeros(sizes[0]).index_add_(0, source, weight)
    product = outgoing[source] * incoming[target]
    return torch.where(product > 0, weight * product.clamp(min=torch.finfo(product.dtype).tiny).rsqrt(), 0.0)
