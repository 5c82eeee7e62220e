"""Popularity: the same ranking for every user, by number of interactions; the baseline that every model has to beat."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import IgnoresFeatures, NonPersonalized
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class PopularityConfig:
    """Settings of Popularity: none."""


class Popularity(Recommender[UserQuery, PopularityConfig], NonPersonalized, IgnoresFeatures):
    """Non-personalised recommender that scores an item by its number of training interactions.

    Nothing is trained: degrees are read from the graph that is encoded. Metrics count ties as a random order; lists show the lower
    raw id first.
    """

    def __init__(self, schema: GraphSchema, config: PopularityConfig = PopularityConfig()) -> None:
        super().__init__(schema, config)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return vectors of width 1: the value 1 for a user, the training degree for an item."""
        item = graph.degree("item")[:, None]
        return Encoded({"user": item.new_ones(graph.num_nodes("user"), 1), "item": item})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the training degree of every candidate."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: there is nothing to train."""
        return {}
