"""Smoothing of item embeddings along an item graph of nearest neighbours by features."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from gmmrec.config import check_choice
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Weighting
from gmmrec.graph.latent import LatentGraph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import Relation
from gmmrec.typing import ITEM, EdgeType

ALIKE: EdgeType = (ITEM, "alike", ITEM)
"""The frozen item graph."""


class ItemSmoothing(nn.Module):
    """Light propagation on an item graph: FREEDOM's, frozen, of raw features, or LATTICE's, partly learned.

    Args:
        schema: Schema with the modalities of the items.
        kind: Item graph, ``"frozen"`` or ``"learned"``.
        knn: Neighbours per item and modality, itself included.
        weighting: Weights of the neighbours in the frozen graph: uniform or cosine similarity (negative values count as 0).
        degrees: Normalisation of the frozen graph; see :func:`gmmrec.graph.edges.normalize`.
        modality_weights: Weights of the modalities in the frozen graph; see :func:`gmmrec.graph.item_graph.modality_shares`.
        modality_dim: Width of the projected features that the learned graph compares.
        num_layers: Number of propagation layers.
        unit: Whether to scale the output to unit length.

    Shapes:
        - **input:** the prepared graph, items ``[I, D]``
        - **output:** ``[I, D]``

    Raises:
        UsageError: ``kind`` is unknown, the items have no features, or a weight names an unknown modality.
    """

    def __init__(
        self,
        schema: GraphSchema,
        kind: Literal["frozen", "learned"] = "frozen",
        *,
        knn: int = 10,
        weighting: Weighting = "binary",
        degrees: Literal["incoming", "both_ends"] = "incoming",
        modality_weights: Mapping[str, float] | None = None,
        modality_dim: int = 64,
        num_layers: int = 1,
        unit: bool = False,
    ) -> None:
        super().__init__()
        check_choice(("frozen", "learned"), kind=kind)
        self.knn, self.weighting, self.degrees, self.num_layers, self.unit = knn, weighting, degrees, num_layers, unit
        self.shares = modality_shares(schema.modalities(ITEM), modality_weights) if kind == "frozen" else {}
        self.latent = LatentGraph(schema, modality_dim, knn=knn) if kind == "learned" else None
        self.conv = LightConv()

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the edges between items."""
        if self.latent is not None:
            return self.latent.prepare(graph)
        edges = item_graph(graph, self.shares, self.knn, weighting=self.weighting, degrees=self.degrees, alone="itself")
        return graph.with_edges(ALIKE, *edges)

    def mined(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the learned edges of the current weights; frozen edges stay."""
        return graph if self.latent is None else self.latent.mined(graph)

    def forward(self, graph: MultimodalGraph, items: Tensor) -> Tensor:
        """Smooth the items."""
        edges: Relation = Relation(*graph.edges(ALIKE)) if self.latent is None else self.latent(graph)
        for _ in range(self.num_layers):
            items = self.conv(items, *edges)
        return unit_rows(items) if self.unit else items
