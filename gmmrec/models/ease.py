"""EASE: Embarrassingly Shallow Autoencoders for Sparse Data.

H. Steck. WWW 2019. https://arxiv.org/abs/1905.03375
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gmmrec.abilities import FoldsInUsers, IgnoresFeatures
from gmmrec.config import check_literals, check_positive
from gmmrec.graph.gram import interaction_gram
from gmmrec.graph.histories import histories
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.closed_form import item_weights
from gmmrec.nn.decoder.history import history_scores
from gmmrec.nn.memory import check_memory
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM


@dataclass(frozen=True)
class EASEConfig:
    """Settings of EASE, of which the paper has one."""

    reg: float = 500.0
    """L2 regularisation of the weights, lambda; the paper's value on MovieLens-20M. Use 20 to 500 for small, sparse data sets."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point precision of the solver; float32 halves memory and time. Weights are stored in float32 either way."""

    def __post_init__(self) -> None:
        check_positive(reg=self.reg)
        check_literals(self)


@dataclass(frozen=True)
class EASEEncoded(Encoded):
    """Item-item weights; users are represented by their histories."""

    histories: Tensor
    """Sparse ``[U, I]``."""


class EASE(Recommender[UserQuery, EASEConfig, EASEEncoded], FoldsInUsers, IgnoresFeatures):
    """A linear autoencoder without a hidden layer; scores are sums of item-item weights over the history.

    The weights B minimise ``|X - X B|^2 + reg |B|^2`` subject to a zero diagonal and have a closed form, which ``prepare``
    computes; there is nothing to train. B is dense: memory is quadratic and time cubic in the number of items, and both are
    independent of the number of users. Users are represented by their histories, so new users need no training.
    """

    weights: Tensor
    """B ``[I, I]``, float32: rows are history items, columns are scored items."""

    def __init__(self, schema: GraphSchema, config: EASEConfig = EASEConfig()) -> None:
        super().__init__(schema, config)
        num_items = schema.num_nodes["item"]
        check_memory(4 * num_items**2, f"a weight matrix of {num_items} items", "use a graph model such as lightgcn")
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Fit B to the interactions of the graph (equation 8)."""
        num_items, dtype = graph.num_nodes("item"), getattr(torch, self.config.precision)
        remedy = "set precision to float32 (half the memory), filter rare items, or use a graph model such as lightgcn"
        check_memory(2 * dtype.itemsize * num_items**2, f"solving for {num_items} items", remedy, graph.degree("item").device)
        self.weights = item_weights(interaction_gram(graph, dtype), self.config.reg).float().contiguous()  # for reading rows
        return graph

    def encode(self, graph: MultimodalGraph) -> EASEEncoded:
        """Return the histories X (sparse ``[U, I]``) of users and the weights B ``[I, I]`` of items."""
        weights, user_histories = histories(graph, self.weights)
        return EASEEncoded({ITEM: weights}, user_histories)

    def score(self, encoded: EASEEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return rows of X B (equation 1)."""
        return history_scores(encoded.histories, encoded["item"], query.user, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: there is nothing to train."""
        return {}
