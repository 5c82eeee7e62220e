"""Graph filters in closed form: what graph convolution does, without training.

Y. Shen, Y. Wu, Y. Zhang, C. Shan, J. Zhang, K. B. Letaief, D. Li. How Powerful is Graph Convolution for Recommendation? CIKM 2021.
https://arxiv.org/abs/2108.07567
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.histories import histories
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Weighting
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.history import history_scores
from gmmrec.nn.memory import check_memory
from gmmrec.nn.propagate import weighted_sum
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM_USER, USER_ITEM, EdgeType

ALIKE: EdgeType = ("item", "alike", "item")
"""The item-item graph: what an item's neighbours by features contribute to it."""
BLOCK_ENTRIES = 2**23


@dataclass(frozen=True)
class GraphFilterConfig:
    """Settings of the filter; the defaults are the paper's linear filter, and no use of features."""

    item_power: float = 0.5
    """Power of an item's degree by which its interactions are divided, and scores multiplied again. The paper has 0.5; less favours
    popular items."""
    hops: int = 1
    """Length of the paths that are followed: 1 for item - user - item, 2 for paths twice as long, and so on. The paper has 1."""
    second_hop: float = 0.0
    """Weight of paths that are one hop longer, beside those of ``hops``."""
    item_weight: float = 0.0
    """How much scores flow on to items that are alike by their features, c; 0 uses no features."""
    item_layers: int = 2
    """How far they flow: L steps add up to ``I + c S + ... + c^L S^L``."""
    item_ends: Literal["scores", "both"] = "scores"
    """Whether only scores flow along features, or the history before it is filtered, too."""
    knn: int = 10
    """Neighbours an item has by each modality, itself included."""
    knn_weighting: Weighting = "cosine"
    """Whether neighbours by features count alike or by their cosine similarity, at least 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "both_ends"
    """How a neighbour's share is normalised; see :func:`gmmrec.graph.edges.normalize`."""
    modality_weights: dict[str, float] | None = None
    """Share of every modality in the item graph, by name; they are divided by their sum. None: equal shares."""

    def __post_init__(self) -> None:
        check_non_negative(item_power=self.item_power, second_hop=self.second_hop, item_weight=self.item_weight)
        check_positive(hops=self.hops, item_layers=self.item_layers, knn=self.knn)
        check_literals(self)


@dataclass(frozen=True)
class GraphFilterEncoded(Encoded):
    """Weights between items; users have no vectors, but histories."""

    histories: Tensor
    """Sparse ``[U, I]``."""


class GraphFilter(Recommender[UserQuery, GraphFilterConfig, GraphFilterEncoded], FoldsInUsers):
    r"""Smooths a user's history along the interactions, and then along a graph of items that look or sound alike; fitted at once.

    With interactions :math:`\mathbf{R}_p = \mathbf{D}_U^{-1/2} \mathbf{R} \mathbf{D}_I^{-p}` the item-item weights are

    .. math::
        \mathbf{D}_I^{-p}\, \mathbf{R}_p^\top \mathbf{R}_p \mathbf{P}^{h-1} \big( \mathbf{I} + b\, \mathbf{P} \big)
        \big( \mathbf{I} + c\, \mathbf{S}^\top + c^2 \mathbf{S}^{\top 2} + \dots \big)\, \mathbf{D}_I^{p},
        \qquad \mathbf{P} = \mathbf{R}_{1/2}^\top \mathbf{R}_{1/2}

    and a score is the sum over the history, as in EASE. At p = 1/2, h = 1 and b = c = 0 this is the linear filter of GF-CF (Shen et
    al., CIKM 2021, section 3.2); its second term, an ideal low-pass filter, is left out. The power, longer paths and the flow along
    features (with ``item_ends="both"`` also in front of the filter) are additions of ours.
    """

    weights: Tensor
    """``[I, I]``, float32: the row says whose voice it is, the column about what."""

    def __init__(self, schema: GraphSchema, config: GraphFilterConfig = GraphFilterConfig()) -> None:
        super().__init__(schema, config)
        names = schema.modalities("item")
        self.shares: dict[str, float] = {}
        if config.item_weight > 0:
            self.shares = modality_shares(names, config.modality_weights or dict.fromkeys(names, 1.0))
        num_items = schema.num_nodes["item"]
        check_memory(4 * num_items**2, f"a table of weights between {num_items} items", "take a graph model such as lightgcn")
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Filters every item's unit vector, a block of items at a time."""
        c = self.config
        if self.shares:
            alike = item_graph(graph, self.shares, c.knn, weighting=c.knn_weighting, degrees=c.knn_degrees, alone="nothing")
            graph = graph.with_edges(ALIKE, *alike)
        num_items = graph.num_nodes("item")
        degree = graph.degree("item").clamp(min=1)
        weights = torch.empty(num_items, num_items, device=degree.device)
        step = max(1, BLOCK_ENTRIES // num_items)
        for block in torch.arange(num_items, device=degree.device).split(step):
            unit = torch.zeros(num_items, len(block), device=degree.device)
            unit[block, torch.arange(len(block), device=degree.device)] = 1.0
            filtered = self._filter(graph, unit, degree)  # [I, b]: what every item in the block says about all items
            weights[block] = (filtered * degree[:, None] ** c.item_power / degree[block] ** c.item_power).T
        self.weights = weights
        return graph

    def _filter(self, graph: MultimodalGraph, x: Tensor, degree: Tensor) -> Tensor:
        c, even = self.config, torch.ones_like(degree)
        if c.item_ends == "both":
            x = self._flow_on(graph, x)
        messages = self._hop(graph, x, degree ** (0.5 - c.item_power))
        for _ in range(c.hops - 1):
            messages = self._hop(graph, messages, even)
        if c.second_hop > 0:
            messages = messages + c.second_hop * self._hop(graph, messages, even)
        return self._flow_on(graph, messages)

    def _flow_on(self, graph: MultimodalGraph, x: Tensor) -> Tensor:
        """``x`` and what reaches the items that are alike by their features."""
        total = flowing = x
        for _ in range(self.config.item_layers if self.shares else 0):
            flowing = self.config.item_weight * _flow(graph, ALIKE, flowing)
            total = total + flowing
        return total

    @staticmethod
    def _hop(graph: MultimodalGraph, x: Tensor, scale: Tensor) -> Tensor:
        """From items to users and back; ``scale`` turns the symmetric weights of the graph's edges into those of another power."""
        return scale[:, None] * _flow(graph, USER_ITEM, _flow(graph, ITEM_USER, scale[:, None] * x))

    def encode(self, graph: MultimodalGraph) -> GraphFilterEncoded:
        """Histories (sparse ``[U, I]``) of the users, weights ``[I, I]`` for the items."""
        weights, own = histories(graph, self.weights)
        return GraphFilterEncoded({"item": weights}, own)

    def score(self, encoded: GraphFilterEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The weights of the history, added up."""
        return history_scores(encoded.histories, encoded["item"], query.user, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """No terms: there is nothing to train."""
        return {}


def _flow(graph: MultimodalGraph, edge_type: EdgeType, x: Tensor) -> Tensor:
    edge_index, weight = graph.edges(edge_type)
    return weighted_sum(edge_index, x, weight, num_targets=graph.num_nodes(edge_type[2]))
