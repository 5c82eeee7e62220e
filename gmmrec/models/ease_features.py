"""EASE with item features, in four variants.

CEASE and Add-EASE: O. Jeunen, J. Van Balen, B. Goethals. Closed-Form Models for Collaborative Filtering with Side-Information.
RecSys 2020. L3AE: LLM-enhanced linear autoencoders, 2025. The variant with nearest neighbours has no paper.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative, check_positive, check_probability
from gmmrec.errors import UsageError
from gmmrec.graph.gram import add_feature_gram, interaction_gram
from gmmrec.graph.histories import histories
from gmmrec.graph.item_graph import item_graph, modality_shares
from gmmrec.graph.knn import Weighting
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.closed_form import item_weights
from gmmrec.nn.decoder.history import history_scores
from gmmrec.nn.memory import check_memory
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM

Form = Literal["cease", "add_ease", "l3ae", "knn"]


@dataclass(frozen=True)
class EASEFeaturesConfig:
    """Settings of EASE with features; each variant reads only its own."""

    form: Form = "cease"
    """Use of the features: stacked below the interactions (``cease``), as a second model whose weights are averaged in
    (``add_ease``), as a prior that the weights are regularised towards (``l3ae``), or as nearest neighbours added to the weights
    (``knn``)."""
    reg: float = 500.0
    """L2 regularisation of the weights, lambda."""
    feature_weight: float = 10.0
    """cease: weight of feature similarity relative to co-occurrence, a; 0 is EASE."""
    feature_reg: float = 10.0
    """add_ease and l3ae: L2 regularisation of the feature-only model."""
    share: float = 0.5
    """add_ease: weight of the interactions in the average, b; 1 is EASE."""
    knn: int = 10
    """knn: number of neighbours per item and modality, the item itself included."""
    knn_weighting: Weighting = "cosine"
    """knn: uniform neighbour weights or cosine similarities."""
    knn_weight: float = 0.1
    """knn: weight of the neighbours relative to the EASE weights, c; 0 is EASE."""
    modality_weights: dict[str, float] | None = None
    """Weight of every modality, by name, normalised to sum to 1. None: uniform weights."""
    center: bool = True
    """Subtract the mean from features: recommended for dense vectors, not for binary tags."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point precision of the solver; float32 halves memory and time. Weights are stored in float32 either way."""

    def __post_init__(self) -> None:
        check_literals(self)
        check_positive(reg=self.reg, feature_reg=self.feature_reg, knn=self.knn)
        check_non_negative(feature_weight=self.feature_weight, knn_weight=self.knn_weight)
        check_probability(share=self.share)
        if self.modality_weights is not None:
            check_non_negative(**{f"modality_weights[{name!r}]": value for name, value in self.modality_weights.items()})
            if not sum(self.modality_weights.values()) > 0:
                raise UsageError(f"modality_weights must hold a number greater than 0, but are {dict(self.modality_weights)}")


@dataclass(frozen=True)
class EASEFeaturesEncoded(Encoded):
    """Item-item weights; users are represented by their histories."""

    histories: Tensor
    """Sparse ``[U, I]``."""


class EASEFeatures(Recommender[UserQuery, EASEFeaturesConfig, EASEFeaturesEncoded], FoldsInUsers):
    """EASE with item-item similarity from features, in closed form, fitted by ``prepare``.

    With G the co-occurrence matrix of the items and F their features (centred, unit rows, modalities concatenated): ``cease``
    solves EASE for G + a F F'; ``add_ease`` averages the solutions of G and of F F'; ``l3ae`` solves for G with weights regularised
    towards the solution S of F F' instead of zero; ``knn`` adds a normalised nearest-neighbour graph to the solution of G.

    RECONSTRUCTED: the objective of L3AE is derived from its idea, and may differ from the paper's in its coefficients. An item
    has a row of zeros for a missing modality and so contributes nothing, which is exact and not an imputation.
    """

    weights: Tensor
    """B ``[I, I]``, float32: rows are history items, columns are scored items."""

    def __init__(self, schema: GraphSchema, config: EASEFeaturesConfig = EASEFeaturesConfig()) -> None:
        super().__init__(schema, config)
        names = schema.modalities("item")
        self.shares = modality_shares(names, config.modality_weights or dict.fromkeys(names, 1.0))
        num_items = schema.num_nodes["item"]
        check_memory(4 * num_items**2, f"a weight matrix of {num_items} items", "use a graph model such as freedom")
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Fit B to the interactions and features of the graph."""
        form, reg, num_items = self.config.form, self.config.reg, graph.num_nodes("item")
        dtype: torch.dtype = getattr(torch, self.config.precision)
        num_matrices = 2 if form in ("cease", "knn") else 3
        remedy = "set precision to float32 (half the memory), filter rare items, or use a graph model such as freedom"
        check_memory(
            num_matrices * dtype.itemsize * num_items**2, f"solving for {num_items} items", remedy, graph.degree("item").device
        )
        if form == "cease":
            shares = {name: self.config.feature_weight * share for name, share in self.shares.items()}
            weights = item_weights(add_feature_gram(interaction_gram(graph, dtype), graph, shares, center=self.config.center), reg)
        elif form == "add_ease":
            weights = self._by_features(graph, dtype).mul_(1 - self.config.share)
            weights += item_weights(interaction_gram(graph, dtype), reg).mul_(self.config.share)
        elif form == "l3ae":
            weights = item_weights(interaction_gram(graph, dtype), reg, prior=self._by_features(graph, dtype))
        else:
            weights = self._with_neighbours(graph, item_weights(interaction_gram(graph, dtype), reg))
        self.weights = weights.float().contiguous()  # for reading rows
        return graph

    def _by_features(self, graph: MultimodalGraph, dtype: torch.dtype) -> Tensor:
        """Return the EASE solution of F F' ``[I, I]``."""
        num_items, device = graph.num_nodes("item"), graph.degree("item").device
        gram = torch.zeros(num_items, num_items, dtype=dtype, device=device)
        return item_weights(add_feature_gram(gram, graph, self.shares, center=self.config.center), self.config.feature_reg)

    def _with_neighbours(self, graph: MultimodalGraph, weights: Tensor) -> Tensor:
        """Return B + c N with a zero diagonal; N has about the same row sum for every item with features."""
        edges, shares = item_graph(graph, self.shares, self.config.knn, weighting=self.config.knn_weighting, alone="nothing")
        weights.index_put_(tuple(edges), self.config.knn_weight * shares.to(weights.dtype), accumulate=True)
        return weights.fill_diagonal_(0.0)

    def encode(self, graph: MultimodalGraph) -> EASEFeaturesEncoded:
        """Return the histories X (sparse ``[U, I]``) of users and the weights B ``[I, I]`` of items."""
        weights, user_histories = histories(graph, self.weights)
        return EASEFeaturesEncoded({ITEM: weights}, user_histories)

    def score(self, encoded: EASEFeaturesEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return rows of X B."""
        return history_scores(encoded.histories, encoded["item"], query.user, candidates)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: there is nothing to train."""
        return {}
