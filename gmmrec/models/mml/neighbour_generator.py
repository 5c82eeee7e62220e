"""Generator of ID embeddings for cold items, from their features and those of their neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmmrec.nn.neighbourhood import edges_into
from gmmrec.nn.project import project_rows
from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Relation
from gmmrec.nn.segment import segment_softmax


class NeighbourEmbeddingGenerator(nn.Module):
    r"""Mean over modalities of an item's projected features plus those of its neighbours, weighted by attention.

    .. math::
        \mathbf{g}_m(i) = \mathrm{ReLU} \Big( \mathbf{y}_i + \sum_{j \in N_m(i)} \alpha_{ij} \mathbf{y}_j \Big), \qquad
        \mathbf{y}_i = \mathbf{W}_m \mathbf{f}_i + \mathbf{b}_m, \qquad
        \alpha_i = \mathrm{softmax}_j \big( \mathbf{w}^\top [\mathbf{y}_i ; \mathbf{y}_j] + c \big)

    Source: the released code of MML (Pan et al., CIKM 2022). One half of :math:`\mathbf{w}`, and :math:`c`, contribute the same to
    all neighbours of an item and cancel in the softmax: they are left out, which changes no result.

    Args:
        feature_dims: Width of every modality.
        dim: Width of an embedding.

    Shapes:
        - **input:** features ``[I, D_m]``, present ``[I]`` and a relation from neighbours to items for every modality;
          rows ``[n]``, distinct
        - **output:** ``[n, dim]``, at least 0, and the mask of items with any modality ``[n]``; the others are zeros

    >>> generate = NeighbourEmbeddingGenerator([4], 8)
    >>> edges = Relation(torch.tensor([[1, 2], [0, 0]]))
    >>> vectors, exists = generate([torch.randn(3, 4)], [torch.tensor([True, True, True])], [edges], torch.tensor([0]))
    >>> vectors.shape, exists
    (torch.Size([1, 8]), tensor([True]))
    """

    def __init__(self, feature_dims: Sequence[int], dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, dim) for width in feature_dims)
        self.logit = nn.ModuleList(nn.Linear(dim, 1, bias=False) for _ in feature_dims)

    def forward(
        self, features: Sequence[Tensor], present: Sequence[Tensor], relations: Sequence[Relation], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Generate embeddings for ``rows``."""
        parts = [self._modality(m, features[m], relations[m], rows) for m in range(len(self.project))]
        exists = torch.stack([mask[rows] for mask in present], dim=1)  # [n, M]
        total = torch.stack(parts, dim=1).masked_fill(~exists.unsqueeze(-1), 0.0).sum(1)
        return total / exists.sum(1, keepdim=True).clamp(min=1), exists.any(1)

    def attention(self, m: int, features: Tensor, relation: Relation, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the attention of ``rows`` over their neighbours by modality m.

        Returns:
            Edges ``[2, E]`` from the neighbours to ``0 … n - 1``, ascending; their weights ``[E]``, which sum to 1 for every row
            with neighbours; the neighbours' projections ``[J, dim]``, whose rows are the sources of the edges.
        """
        edge_index = edges_into(relation, rows, len(features), len(features)).edge_index.as_subclass(Tensor)
        sources, position = torch.unique(edge_index[0], return_inverse=True)  # a shared neighbour is projected once
        neighbours = self._projected(m, features, sources)
        counts = torch.bincount(edge_index[1], minlength=len(rows))
        logits = self.logit[m](neighbours).squeeze(-1)[position]
        alpha = segment_softmax(logits, torch.cat([counts.new_zeros(1), counts.cumsum(0)]), edge_index[1])
        return torch.stack([position, edge_index[1]]), alpha, neighbours

    def _modality(self, m: int, features: Tensor, relation: Relation, rows: Tensor) -> Tensor:
        edge_index, alpha, neighbours = self.attention(m, features, relation, rows)
        messages = weighted_sum(edge_index, neighbours, alpha, num_targets=len(rows))
        return torch.relu(self._projected(m, features, rows) + messages)

    def _projected(self, m: int, features: Tensor, rows: Tensor) -> Tensor:
        layer = self.project[m]
        return project_rows(features, rows, layer.weight, layer.bias)  # type: ignore[arg-type]
