"""Popularity: everybody is shown what most people took. The yardstick that every model has to beat."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import NonPersonalized
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class PopularityConfig:
    """Popularity has no settings."""


class Popularity(Recommender[UserQuery, PopularityConfig], NonPersonalized):
    """Scores an item by its number of training interactions, the same for every user.

    Nothing is learned: the numbers are read from the graph at hand. Equal scores are left to the ranking, where the lower row wins.
    """

    def __init__(self, schema: GraphSchema, config: PopularityConfig = PopularityConfig()) -> None:
        super().__init__(schema, config)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Vectors of length one: 1 for a user, the training degree for an item."""
        item = graph.degree("item")[:, None]
        return Encoded({"user": item.new_ones(graph.num_nodes("user"), 1), "item": item})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The training degree of every candidate."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """No terms: there is nothing to train."""
        return {}
