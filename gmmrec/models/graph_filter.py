"""Graph filters in closed form: graph convolution without training.

Y. Shen, Y. Wu, Y. Zhang, C. Shan, J. Zhang, K. B. Letaief, D. Li. How Powerful is Graph Convolution for Recommendation? CIKM 2021.
https://arxiv.org/abs/2108.07567
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gmmrec.abilities import FoldsInUsers, IgnoresFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.histories import histories
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Weighting
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.decoder.history import history_scores
from gmmrec.nn.memory import check_memory
from gmmrec.nn.propagate import weighted_sum
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM_USER, USER_ITEM, EdgeType

ALIKE: EdgeType = ("item", "alike", "item")
"""Item-item graph: edges to every item from its neighbours by features."""
BLOCK_ENTRIES = 2**23
"""Maximum number of entries of a block of filtered vectors."""


@dataclass(frozen=True)
class GraphFilterConfig:
    """Settings of the filter; defaults are the paper's linear filter, without features."""

    item_power: float = 0.5
    """Exponent of the item degrees that interactions are divided by and scores multiplied by. The paper has 0.5; smaller values
    favour popular items."""
    hops: int = 1
    """Number of item-user-item hops. The paper has 1."""
    second_hop: float = 0.0
    """Weight of paths one hop longer than ``hops``."""
    item_weight: float = 0.0
    """Weight of a propagation step between items with similar features, c; 0 uses no features."""
    item_layers: int = 2
    """Number of propagation steps between items, L, which sum to ``I + c S + ... + c^L S^L``."""
    item_ends: Literal["scores", "both"] = "scores"
    """Propagate between items after the filter only (``scores``), or also before it (``both``)."""
    knn: int = 10
    """Number of neighbours per item and modality, the item itself included."""
    knn_weighting: Weighting = "cosine"
    """Uniform neighbour weights or cosine similarities, clipped at 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "both_ends"
    """Normalisation of neighbour weights; see :func:`gmmrec.graph.edges.normalize`."""
    modality_weights: dict[str, float] | None = None
    """Weight of every modality in the item graph, by name, normalised to sum to 1. None: uniform weights."""

    def __post_init__(self) -> None:
        check_non_negative(item_power=self.item_power, second_hop=self.second_hop, item_weight=self.item_weight)
        check_positive(hops=self.hops, item_layers=self.item_layers, knn=self.knn)
        check_literals(self)


@dataclass(frozen=True)
class GraphFilterEncoded(Encoded):
    """Item-item weights; users are represented by their histories."""

    histories: Tensor
    """Sparse ``[U, I]``."""


class GraphFilter(Recommender[UserQuery, GraphFilterConfig, GraphFilterEncoded], FoldsInUsers, IgnoresFeatures):
    r"""A closed-form filter that smooths histories along the interactions and then along an item-item feature graph.

    With interactions :math:`\mathbf{R}_p = \mathbf{D}_U^{-1/2} \mathbf{R} \mathbf{D}_I^{-p}` the item-item weights are

    .. math::
        \mathbf{D}_I^{-p}\, \mathbf{R}_p^\top \mathbf{R}_p \mathbf{P}^{h-1} \big( \mathbf{I} + b\, \mathbf{P} \big)
        \big( \mathbf{I} + c\, \mathbf{S}^\top + c^2 \mathbf{S}^{\top 2} + \dots \big)\, \mathbf{D}_I^{p},
        \qquad \mathbf{P} = \mathbf{R}_{1/2}^\top \mathbf{R}_{1/2}

    and a score is the sum over the history, as in EASE. At p = 1/2, h = 1 and b = c = 0 this is the linear filter of GF-CF (Shen et
    al., CIKM 2021, section 3.2); its second term, an ideal low-pass filter, is omitted. The power, longer paths and propagation
    along features (with ``item_ends="both"`` also before the filter) are our additions.
    """

    weights: Tensor
    """``[I, I]``, float32: rows are history items, columns are scored items."""

    def __init__(self, schema: GraphSchema, config: GraphFilterConfig = GraphFilterConfig()) -> None:
        super().__init__(schema, config)
        names = schema.modalities("item")
        self.shares: dict[str, float] = {}
        if config.item_weight > 0:
            self.shares = modality_shares(names, config.modality_weights or dict.fromkeys(names, 1.0))
        num_items = schema.num_nodes["item"]
        check_memory(4 * num_items**2, f"a weight matrix of {num_items} items", "use a graph model such as lightgcn")
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    @property
    def ignores_features(self) -> bool:
        """True without an item graph."""
        return not self.shares

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Filter the unit vector of every item, a block of items at a time."""
        c = self.config
        if self.shares:
            edges = item_graph(graph, self.shares, c.knn, weighting=c.knn_weighting, degrees=c.knn_degrees, alone="nothing")
            graph = graph.with_edges(ALIKE, *edges)
        num_items = graph.num_nodes("item")
        degree = graph.degree("item").clamp(min=1)
        weights = torch.empty(num_items, num_items, device=degree.device)
        block_size = block_rows(BLOCK_ENTRIES, num_items)
        for block in torch.arange(num_items, device=degree.device).split(block_size):
            unit = torch.zeros(num_items, len(block), device=degree.device)
            unit[block, torch.arange(len(block), device=degree.device)] = 1.0
            filtered = self._filter(graph, unit, degree)  # [I, b]: columns for the items of the block
            weights[block] = (filtered * degree[:, None] ** c.item_power / degree[block] ** c.item_power).T
        self.weights = weights
        return graph

    def _filter(self, graph: MultimodalGraph, x: Tensor, degree: Tensor) -> Tensor:
        c, ones = self.config, torch.ones_like(degree)
        if c.item_ends == "both":
            x = self._propagate_items(graph, x)
        filtered = self._hop(graph, x, degree ** (0.5 - c.item_power))
        for _ in range(c.hops - 1):
            filtered = self._hop(graph, filtered, ones)
        if c.second_hop > 0:
            filtered = filtered + c.second_hop * self._hop(graph, filtered, ones)
        return self._propagate_items(graph, filtered)

    def _propagate_items(self, graph: MultimodalGraph, x: Tensor) -> Tensor:
        """Sum ``x`` and its propagation along the feature graph."""
        total = step = x
        for _ in range(self.config.item_layers if self.shares else 0):
            step = self.config.item_weight * _propagate(graph, ALIKE, step)
            total = total + step
        return total

    @staticmethod
    def _hop(graph: MultimodalGraph, x: Tensor, scale: Tensor) -> Tensor:
        """Propagate from items to users and back; ``scale`` converts the graph's symmetric edge weights to another power."""
        return scale[:, None] * _propagate(graph, USER_ITEM, _propagate(graph, ITEM_USER, scale[:, None] * x))

    def encode(self, graph: MultimodalGraph) -> GraphFilterEncoded:
        """Return the histories (sparse ``[U, I]``) of users and the weights ``[I, I]`` of items."""
        weights, user_histories = histories(graph, self.weights)
        return GraphFilterEncoded({"item": weights}, user_histories)

    def score(self, encoded: GraphFilterEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the sums of weights over the history."""
        return history_scores(encoded.histories, encoded["item"], query.user, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: there is nothing to train."""
        return {}


def _propagate(graph: MultimodalGraph, edge_type: EdgeType, x: Tensor) -> Tensor:
    edge_index, weight = graph.edges(edge_type)
    return weighted_sum(edge_index, x, weight, num_targets=graph.num_nodes(edge_type[2]))
