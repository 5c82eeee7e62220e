"""LATTICE: Mining Latent Structures for Multimedia Recommendation.

J. Zhang, Y. Zhu, Q. Liu, S. Wu, S. Wang, L. Wang. ACM MM 2021. https://arxiv.org/abs/2104.09036
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric.utils import coalesce

from gmmrec.config import check_choice, check_non_negative, check_positive, check_probability
from gmmrec.graph.edges import normalize
from gmmrec.graph.knn import Backend, knn_edges
from gmmrec.graph.multimodal import Edges, GraphSchema, MultimodalGraph
from gmmrec.nn.conv.learned_graph import LearnedItemGraph
from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.conv.self_loop import SelfLoopPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.normalize import unit_rows
from gmmrec.nn.relations import Pair, Relation
from gmmrec.recommender import Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import EdgeType, NodeType

LATENT: EdgeType = ("item", "latent", "item")
"""The item graph that is propagated on: the mixture of all others, with the weights of the time it was mixed."""
MIXED_WITH = "latent_mixed_with"  # in the graph's data: the weights of the model at that time


def initial(modality: str) -> EdgeType:
    """The k-NN graph of raw features, normalised."""
    return ("item", f"initial_{modality}", "item")


def learned(modality: str) -> EdgeType:
    """The k-NN graph of projected features: which pairs, weighed by their cosines of the time they were searched."""
    return ("item", f"learned_{modality}", "item")


@dataclass(frozen=True)
class LATTICEConfig:
    """Settings of LATTICE; defaults are those of the authors' code unless a field says otherwise."""

    dim: int = 64
    """Size of every embedding."""
    modality_dim: int = 64
    """Width of the projected features that the learned graph compares."""
    num_layers: int = 2
    """Number of propagation steps between users and items; 0 makes the backbone matrix factorisation."""
    item_layers: int = 1
    """Number of propagation steps between items."""
    knn: int = 10
    """Neighbours an item has by each modality, itself included, in the initial and in the learned graph."""
    knn_backend: Backend = "exact"
    """How neighbours are searched in raw features; the learned graph is always searched exactly."""
    lam: float = 0.9
    """Share of the initial graph in the mixture with the learned one; 1 leaves the learned one out."""
    l2: float = 1e-5
    """Weight of the L2 term on the final vectors of the batch."""
    init_std: float = 0.0
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, modality_dim=self.modality_dim, knn=self.knn)
        check_non_negative(num_layers=self.num_layers, item_layers=self.item_layers, l2=self.l2, init_std=self.init_std)
        check_probability(lam=self.lam)
        check_choice(("exact", "faiss", "faiss_approximate"), knn_backend=self.knn_backend)


class LATTICE(Recommender[UserQuery]):
    """Smooths item embeddings on a graph mined from features, part of which is learned, and adds them to collaborative vectors.

    Two k-NN graphs a modality, one of raw and one of projected features, are mixed with weights that are learned. The graph is
    mined anew at the start of every epoch (:meth:`begin_epoch`) and has a gradient in that epoch's first step alone: as long as the
    model's weights are those the graph was mixed with, similarities are computed with gradients, and once the weights have moved
    on, the graph stays as it is. In evaluation mode it is that of the current weights: mined at the first call of :meth:`encode`
    and kept as long as neither the weights nor the initial graph change. A subgraph whose learned edges are outdated searches among
    its own items then; draw it from ``begin_epoch(graph, generator)`` to have them up to date.

    Deviations from the authors' code: raw features are not trained; similarities below 0 count as 0; the optimiser leaves
    projections alone in steps without a gradient for them, where old versions of PyTorch went on by momentum; training pairs are
    the shuffled training interactions. Where an item lacks a modality, the weights of those it has are scaled up; an item without
    any is its own only neighbour. The paper knows no such items.

    Raises:
        ValueError: The items have no features at all.
    """

    query_type, config_class = UserQuery, LATTICEConfig

    def __init__(self, schema: GraphSchema, config: LATTICEConfig = LATTICEConfig()) -> None:
        super().__init__(schema, config)
        self.modalities = schema.modalities("item")
        if not self.modalities:
            raise ValueError(
                "LATTICE needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.modality_logits = nn.Parameter(torch.zeros(len(self.modalities)))
        projected = self.modalities if config.lam < 1 else ()
        self.mine = nn.ModuleList(
            LearnedItemGraph(schema.feature_dims[name], config.modality_dim, config.knn) for name in projected
        )
        self.conv, self.propagate = LightConv(), SelfLoopPropagation(config.num_layers)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """The initial graphs, from raw features, and those of the weights as they are."""
        tables, c = graph.features, self.config
        sizes, alone = (graph.num_nodes("item"),) * 2, _alone(graph, self.modalities)
        for name in self.modalities:
            edge_index, cosine = knn_edges(tables[name], c.knn, weighting="cosine", backend=c.knn_backend)
            edge_index, cosine = torch.cat([edge_index, alone], dim=1), F.pad(cosine.clamp(min=0), (0, alone.shape[1]), value=1.0)
            graph = graph.with_edges(initial(name), edge_index, normalize(edge_index, sizes, cosine, degrees="incoming"))
        return self._mined(graph)

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Mines the latent graph of the current weights."""
        return self._mined(graph)

    def encode(self, graph: MultimodalGraph) -> dict[NodeType, Tensor]:
        """Collaborative vectors of users and items, and of items their smoothed embeddings at length 1."""
        if not self.training:
            graph = self._mined(graph)
        ids = Pair(graph.gather("user", self.users), graph.gather("item", self.items))
        users, items = self.propagate(ids, graph.bipartite)
        latent: Relation | Edges = graph.edges(LATENT)
        if self.training and self._is_current(graph):
            latent = self._mixture(graph)
        smoothed = ids.item
        for _ in range(self.config.item_layers):
            smoothed = self.conv(smoothed, *latent)
        return {"user": users, "item": items + unit_rows(smoothed)}

    def score(self, encoded: Mapping[NodeType, Tensor], query: UserQuery, candidates: Tensor) -> Tensor:
        """The inner product."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """BPR, and the L2 norm of the final vectors of the batch."""
        encoded = self.encode(graph)
        users, items = F.embedding(batch.query.user, encoded["user"]), F.embedding(batch.candidates, encoded["item"])
        scores = inner_product(users, items)  # [B, 1 + K]
        terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(users, items)
        return terms

    def _mixture(self, graph: MultimodalGraph) -> Relation:
        """The latent graph of the current weights, with gradients."""
        share, lam, num_items = self._shares(graph), self.config.lam, graph.num_nodes("item")
        edges, weights = [], []
        for m, name in enumerate(self.modalities):
            pairs, frozen = graph.edges(initial(name))
            edges.append(pairs.as_tensor())
            weights.append(lam * share[edges[-1][1], m] * cast(Tensor, frozen))
        if self.mine:
            mined, cosines = [], []
            for m, (name, mine) in enumerate(zip(self.modalities, self.mine, strict=True)):
                pairs = graph.edges(learned(name)).edge_index
                mined.append(pairs.as_tensor())
                cosine = cast(LearnedItemGraph, mine).similarity(graph.features[name].pooled, pairs)
                cosines.append(share[mined[-1][1], m] * cosine.clamp(min=0))
            edges.append(torch.cat(mined, dim=1))
            weights.append((1 - lam) * normalize(edges[-1], (num_items, num_items), torch.cat(cosines), degrees="incoming"))
        return Relation(*coalesce(torch.cat(edges, 1), torch.cat(weights), num_items, reduce="sum", sort_by_row=False))

    def _shares(self, graph: MultimodalGraph) -> Tensor:
        """How much every modality counts for every item ``[I, M]``; of those it has, or of all where it has none."""
        present = torch.stack([graph.features[name].present for name in self.modalities], dim=1)
        counts = present | ~present.any(1, keepdim=True)
        return F.softmax(self.modality_logits.masked_fill(~counts, -torch.inf), dim=1)

    def _mined(self, graph: MultimodalGraph) -> MultimodalGraph:
        """The graph with the learned and the latent edges of the current weights: found where they are known, else searched."""
        if self._is_current(graph):
            return graph
        key, weights = graph.edges(initial(self.modalities[0])).edge_index, self._weights()
        known = _MINED.get(key)
        if known is None or not _same(known.mixed_with, weights):
            known = _MINED[key] = Mined(weights, self._mine(graph))
        for edge_type, edges in known.edges.items():
            graph = graph.with_edges(edge_type, *edges)
        setattr(graph.data, MIXED_WITH, weights)  # of the copy that with_edges made
        return graph

    @torch.no_grad()
    def _mine(self, graph: MultimodalGraph) -> dict[EdgeType, Edges]:
        home = graph.degree("item").device  # the graph of a new epoch lies where the data are
        graph = graph if home == self.items.device else graph.to(self.items.device)
        alone = _alone(graph, self.modalities)
        for name, mine in zip(self.modalities, self.mine, strict=False):  # none where nothing is learned
            table = graph.features[name]
            pairs = cast(LearnedItemGraph, mine).search(table.pooled, table.present)
            graph = graph.with_edges(learned(name), torch.cat([pairs, alone], dim=1))
        graph = graph.with_edges(LATENT, *self._mixture(graph))
        graph = graph if home == self.items.device else graph.to(home)
        return {kind: graph.edges(kind) for kind in (*map(learned, self.modalities[: len(self.mine)]), LATENT)}

    def _is_current(self, graph: MultimodalGraph) -> bool:
        """Whether the latent graph is that of the weights as they are."""
        return _same(getattr(graph.data, MIXED_WITH, None), self._weights())

    def _weights(self) -> Tensor:
        """All that the latent graph depends on, in one vector."""
        return torch.cat([p.detach().flatten() for p in (self.modality_logits, *self.mine.parameters())])


class Mined(NamedTuple):
    """What was mined, and the weights it was mined with."""

    mixed_with: Tensor
    edges: dict[EdgeType, Edges]


_MINED = WeakTensorKeyDictionary()  # by the initial edges of a graph: its latest Mined, of whichever model


def _same(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and found.shape == wanted.shape and torch.equal(found.to(wanted.device), wanted)


def _alone(graph: MultimodalGraph, modalities: Sequence[str]) -> Tensor:
    """Edges of items without any modality to themselves ``[2, n]``."""
    present = torch.stack([graph.features[name].present for name in modalities])
    rows = torch.nonzero(~present.any(0)).flatten()
    return torch.stack([rows, rows])
