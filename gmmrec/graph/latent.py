"""The latent item graph of LATTICE, mined from raw and learned features."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric.utils import coalesce

from gmmrec.errors import UsageError
from gmmrec.graph.edges import normalize
from gmmrec.graph.knn import Backend, knn_edges
from gmmrec.graph.multimodal import Edges, GraphSchema, MultimodalGraph
from gmmrec.nn.conv.learned_graph import LearnedItemGraph
from gmmrec.nn.relations import Relation
from gmmrec.typing import EdgeType

LATENT: EdgeType = ("item", "latent", "item")
"""The item graph used for propagation: the mixture of all others, by the module's weights at that time."""
MIXED_WITH = "latent_mixed_with"  # attribute of the graph's data: the weights of the module at that time


def initial(modality: str) -> EdgeType:
    """Edge type of the normalised k-NN graph of raw features."""
    return ("item", f"initial_{modality}", "item")


def learned(modality: str) -> EdgeType:
    """Edge type of the k-NN graph of projected features; the edges hold the pairs found, without weights."""
    return ("item", f"learned_{modality}", "item")


class LatentGraph(nn.Module):
    """Learned mixture of k-NN graphs of raw and of projected features (LATTICE, ACM MM 2021).

    The graph is mined at the start of every epoch (:meth:`mined`) and has gradients only in the first step of that epoch: while the
    weights are those the graph was mixed with, similarities are computed with gradients; once they have changed, the graph stays
    fixed. In evaluation mode it is the graph of the current weights, mined at the first call and cached until the weights or the
    initial graph change; a subgraph with outdated learned edges then searches among its own items.

    If an item lacks a modality, the weights of its other modalities are scaled up; an item without any is its own only neighbour.
    Negative similarities count as 0.

    Args:
        schema: Schema with the modalities of the items.
        dim: Width of the projected features that the learned graph compares.
        knn: Neighbours per item and modality, itself included, in either graph.
        lam: Share of the initial graph in the mixture; 1 omits the learned graph.
        backend: Backend of the neighbour search in raw features; the learned graph is always searched exactly.

    Raises:
        UsageError: The items have no features at all.
    """

    def __init__(self, schema: GraphSchema, dim: int = 64, *, knn: int = 10, lam: float = 0.9, backend: Backend = "exact") -> None:
        super().__init__()
        self.modalities, self.knn, self.lam, self.backend = schema.modalities("item"), knn, lam, backend
        if not self.modalities:
            raise UsageError(
                "an item graph needs at least one modality of the items, but the data set has none; "
                "add a feature file or use lightgcn"
            )
        self.modality_logits = nn.Parameter(torch.zeros(len(self.modalities)))
        projected = self.modalities if lam < 1 else ()
        self.mine = nn.ModuleList(LearnedItemGraph(schema.feature_dims[name], dim, knn) for name in projected)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the initial graphs, from raw features, and the latent graph of the current weights."""
        sizes, alone = (graph.num_nodes("item"),) * 2, _alone(graph, self.modalities)
        for name in self.modalities:
            edge_index, cosine = knn_edges(graph.features[name], self.knn, weighting="cosine", backend=self.backend)
            edge_index, cosine = torch.cat([edge_index, alone], dim=1), F.pad(cosine.clamp(min=0), (0, alone.shape[1]), value=1.0)
            graph = graph.with_edges(initial(name), edge_index, normalize(edge_index, sizes, cosine, degrees="incoming"))
        return self.mined(graph)

    def forward(self, graph: MultimodalGraph) -> Relation:
        """Return the latent edges, with gradients if the graph has just been mined."""
        if not self.training:
            graph = self.mined(graph)
        elif self._is_current(graph):
            return self._mixture(graph)
        return Relation(*graph.edges(LATENT))

    def mined(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the learned and latent edges of the current weights, from the cache or by a new search."""
        if self._is_current(graph):
            return graph
        key, weights = graph.edges(initial(self.modalities[0])).edge_index, self._weights()
        cached = _MINED.get(key)
        if cached is None or not _same(cached.mixed_with, weights):
            cached = _MINED[key] = Mined(weights, self._mine(graph))
        for edge_type, edges in cached.edges.items():
            graph = graph.with_edges(edge_type, *edges)
        setattr(graph.data, MIXED_WITH, weights)  # of the copy that with_edges made
        return graph

    def _mixture(self, graph: MultimodalGraph) -> Relation:
        """Compute the latent graph of the current weights, with gradients."""
        share, lam, num_items = self._shares(graph), self.lam, graph.num_nodes("item")
        edges, weights = [], []
        for m, name in enumerate(self.modalities):
            pairs, frozen = graph.edges(initial(name))
            edges.append(pairs.as_tensor())
            weights.append(lam * share[:, m].index_select(0, edges[-1][1]) * cast(Tensor, frozen))
        if self.mine:
            mined, cosines = [], []
            for m, (name, mine) in enumerate(zip(self.modalities, self.mine, strict=True)):
                pairs = graph.edges(learned(name)).edge_index
                mined.append(pairs.as_tensor())
                cosine = cast(LearnedItemGraph, mine).similarity(graph.features[name].pooled, pairs)
                cosines.append(share[:, m].index_select(0, mined[-1][1]) * cosine.clamp(min=0))
            edges.append(torch.cat(mined, dim=1))
            weights.append((1 - lam) * normalize(edges[-1], (num_items, num_items), torch.cat(cosines), degrees="incoming"))
        return Relation(*coalesce(torch.cat(edges, 1), torch.cat(weights), num_items, reduce="sum", sort_by_row=False))

    def _shares(self, graph: MultimodalGraph) -> Tensor:
        """Compute the share of every modality for every item ``[I, M]``, over those present, or over all if none is."""
        present = torch.stack([graph.features[name].present for name in self.modalities], dim=1)
        mask = present | ~present.any(1, keepdim=True)
        return F.softmax(self.modality_logits.masked_fill(~mask, -torch.inf), dim=1)

    @torch.no_grad()
    def _mine(self, graph: MultimodalGraph) -> dict[EdgeType, Edges]:
        home = graph.degree("item").device  # the graph of a new epoch is on the device of the data
        graph = graph if home == self.modality_logits.device else graph.to(self.modality_logits.device)
        alone = _alone(graph, self.modalities)
        for name, mine in zip(self.modalities, self.mine, strict=False):  # none where nothing is learned
            table = graph.features[name]
            pairs = cast(LearnedItemGraph, mine).search(table.pooled, table.present)
            graph = graph.with_edges(learned(name), torch.cat([pairs, alone], dim=1))
        graph = graph.with_edges(LATENT, *self._mixture(graph))
        graph = graph if home == self.modality_logits.device else graph.to(home)
        return {kind: graph.edges(kind) for kind in (*map(learned, self.modalities[: len(self.mine)]), LATENT)}

    def _is_current(self, graph: MultimodalGraph) -> bool:
        """Return True if the latent graph is that of the current weights."""
        return _same(getattr(graph.data, MIXED_WITH, None), self._weights())

    def _weights(self) -> Tensor:
        """Return all parameters that the latent graph depends on, as one vector."""
        return torch.cat([p.detach().flatten() for p in (self.modality_logits, *self.mine.parameters())])


class Mined(NamedTuple):
    """Mined edges and the weights they were mined with."""

    mixed_with: Tensor
    edges: dict[EdgeType, Edges]


_MINED = WeakTensorKeyDictionary()  # from the initial edges of a graph to its latest Mined, whatever the model


def _same(first: Tensor | None, second: Tensor) -> bool:
    return first is not None and first.shape == second.shape and torch.equal(first.to(second.device), second)


def _alone(graph: MultimodalGraph, modalities: Sequence[str]) -> Tensor:
    """Return self-loops of items without any modality ``[2, n]``."""
    present = torch.stack([graph.features[name].present for name in modalities])
    rows = torch.nonzero(~present.any(0)).flatten()
    return torch.stack([rows, rows])
