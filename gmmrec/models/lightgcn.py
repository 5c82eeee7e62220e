"""LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation.

X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang. SIGIR 2020. https://arxiv.org/abs/2002.02126
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, IgnoresFeatures
from gmmrec.config import check_non_negative, check_positive
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.conv.light import LightPropagation
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, embedding_norm
from gmmrec.nn.relations import UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery


@dataclass(frozen=True)
class LightGCNConfig:
    """Settings of LightGCN; defaults are the paper's (section 4.1.2)."""

    dim: int = 64
    """Embedding width."""
    num_layers: int = 3
    """Number of propagation layers, K."""
    l2: float = 1e-4
    """Weight of the L2 term on the layer-0 embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings, as in the authors' PyTorch code; 0 for Xavier uniform initialisation, as in
    their TensorFlow code."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim)
        check_non_negative(num_layers=self.num_layers, l2=self.l2, init_std=self.init_std)


class LightGCN(Recommender[UserQuery, LightGCNConfig], FoldsInUsers, IgnoresFeatures):
    """Linear propagation of user and item embeddings along the interactions, averaged over layers.

    The only parameters are the layer-0 embeddings. Deviation from the authors' code: training pairs are the shuffled training
    interactions (each once per epoch), as in the MMRec toolbox; the code samples a user first and then one of their items.
    """

    def __init__(self, schema: GraphSchema, config: LightGCNConfig = LightGCNConfig()) -> None:
        super().__init__(schema, config)
        self.users = embedding_table(schema.num_nodes["user"], config.dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], config.dim, config.init_std)
        self.propagate = LightPropagation(config.num_layers)

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Apply equations 3 and 4: K light convolutions, then the mean of all layers, layer 0 included."""
        ids = UserItem(graph.gather("user", self.users), graph.gather("item", self.items))
        users, items = self.propagate(ids, graph.bipartite)
        return Encoded({"user": users, "item": items})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return equation 6, the inner products."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return equation 15: BPR and the squared L2 norm of the layer-0 embeddings of the batch."""
        scores = self.score(self.encode(graph), batch.query, batch.candidates)  # [B, 1 + K]
        users = F.embedding(batch.query.user, graph.gather("user", self.users))
        items = F.embedding(batch.candidates, graph.gather("item", self.items))
        return {"bpr": bpr(scores[:, :1], scores[:, 1:]), "l2": self.config.l2 * embedding_norm(users, items)}
