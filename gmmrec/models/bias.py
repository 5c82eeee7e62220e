"""Bias: user and item biases around the mean rating, the baseline for every rating model."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import IgnoresFeatures, NonPersonalized
from gmmrec.config import check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.biases import rating_biases
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, RatingQuery
from gmmrec.typing import USER_ITEM


@dataclass(frozen=True)
class BiasConfig:
    """Settings of the bias estimates."""

    shrinkage: float = 5.0
    """Number of mean ratings added to those of every user and item; 0 trusts a single rating fully."""
    num_rounds: int = 10
    """Number of alternating updates of item and user biases; 1 is the usual one-pass estimate."""

    def __post_init__(self) -> None:
        check_non_negative(shrinkage=self.shrinkage)
        check_positive(num_rounds=self.num_rounds)


class Bias(Recommender[RatingQuery, BiasConfig], NonPersonalized, IgnoresFeatures):
    r"""The baseline :math:`\mu + b_u + b_i` of Koren, Bell & Volinsky (IEEE Computer 2009, equation 3), in closed form.

    The biases are those of :func:`gmmrec.nn.biases.rating_biases`; they are 0 for users and items without training ratings.
    """

    mean: Tensor
    users: Tensor
    items: Tensor

    def __init__(self, schema: GraphSchema, config: BiasConfig = BiasConfig()) -> None:
        super().__init__(schema, config)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("users", torch.zeros(schema.num_nodes["user"]))
        self.register_buffer("items", torch.zeros(schema.num_nodes["item"]))

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Fit the biases to the ratings of the graph.

        Raises:
            UsageError: The graph has no ratings.
        """
        ratings = graph.attribute(USER_ITEM, "rating")
        if ratings is None:
            raise UsageError("the interactions have no ratings to predict; set weight_column, or choose a model that ranks")
        user, item = graph.edges(USER_ITEM).edge_index.as_tensor()
        rows, sizes = (graph.rows("user")[user], graph.rows("item")[item]), (len(self.users), len(self.items))
        fitted = rating_biases(*rows, ratings, sizes, shrinkage=self.config.shrinkage, num_rounds=self.config.num_rounds)
        for buffer, value in zip((self.mean, self.users, self.items), fitted, strict=True):
            buffer.copy_(value)
        return graph

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return vectors of width 2 whose inner product is the prediction: mean plus bias and 1 for users, 1 and bias for items."""
        users = self.mean + graph.gather("user", self.users)
        items = graph.gather("item", self.items)
        return Encoded(
            {
                "user": torch.stack([users, torch.ones_like(users)], dim=1),
                "item": torch.stack([torch.ones_like(items), items], dim=1),
            }
        )

    def score(self, encoded: Encoded, query: RatingQuery, candidates: Tensor) -> Tensor:
        """Return the predicted rating of every candidate."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[RatingQuery]) -> dict[str, Tensor]:
        """Return no terms: ``prepare`` has fitted the biases."""
        return {}
