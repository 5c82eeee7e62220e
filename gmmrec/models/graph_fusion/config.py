"""Settings of GraphFusion and the names of its parts."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_choice, check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.knn import Weighting
from gmmrec.nn.encoder.by_name import CONTENT_ENCODERS

Ids = Literal["none", "mf", "light", "self_loops", "hcgcn", "mcptr"]
Fusion = Literal[
    "mean",
    "sum",
    "concat",
    "gate",
    "attention",
    "self_attention",
    "co_attention",
    "cross_stitch",
    "context",
    "multi_order",
    "vision_language",
    "modality_aware",
]


@dataclass(frozen=True)
class GraphFusionConfig:
    """Parts of the model and their settings."""

    ids: Ids = "light"
    """Encoder of the ID embeddings: none (``mf``), light propagation (``self_loops``: as in LATTICE), propagation in clusters
    (``hcgcn``) or on co-interaction graphs (``mcptr``); with ``none`` they are not a view."""
    content: str | dict[str, str] = "none"
    """Encoder of every modality, or a dictionary with one per modality: a ``linear`` map, a ``perceptron``, or features and user
    preferences propagated as in ``ids`` or by the layers of MGAT or MMGCN; ``none`` leaves the modality to the item graph."""
    unit_features: bool = True
    """Normalise features to unit length before encoding, so that no modality dominates by its scale."""
    fusion: Fusion = "mean"
    """Fusion of a node's views into one vector; ``modality_aware`` fuses the views of an item for each user."""
    item_graph: Literal["none", "frozen", "learned"] = "frozen"
    """k-NN graph of items along which their ID embeddings are smoothed and added to the fused items: from raw features, or
    LATTICE's, which mixes that graph (by cosines) with one from projected features."""
    decoder: Literal["inner_product", "bilinear", "mlp"] = "inner_product"
    """Decoder of a score from a user's and an item's vector."""
    ranking: Literal["bpr", "softmax"] = "bpr"
    """Ranking loss: BPR over sampled negatives, or softmax over all items in the batch."""
    dim: int = 64
    """Embedding width."""
    num_layers: int = 2
    """Number of layers of every encoder."""
    modality_dim: int = 64
    """Width of a modality before the first layer of MGAT or MMGCN."""
    num_clusters: int = 8
    """Number of clusters of ``hcgcn``."""
    neighbors: int = 10
    """Number of neighbours in the co-interaction graphs of ``mcptr``."""
    knn: int = 10
    """Number of neighbours per item and modality in the item graph, the item itself included."""
    knn_weighting: Weighting = "binary"
    """Weights of neighbours in the item graph: equal, or their cosine similarity clamped at 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "incoming"
    """Normalisation of the item graph; see :func:`gmmrec.graph.edges.normalize`."""
    modality_weights: dict[str, float] | None = None
    """Weight of each modality in the item graph, by name. None: 0.1 for image and 0.9 for text if these are all, else uniform."""
    item_layers: int = 1
    """Number of propagation steps on the item graph."""
    item_unit: bool = False
    """Normalise the item graph's output to unit length, as in LATTICE and HCGCN."""
    knowledge: Literal["none", "entity"] = "none"
    """Knowledge encoder for items aligned with entities of a knowledge graph: ID embeddings propagated from item to entity to item
    are added to the fused items, with the features of entities if the data have any."""
    knowledge_layers: int = 2
    """Number of propagation steps between entities; two lead from a film through its actors to other films."""
    edge_dropout: float = 0.0
    """Share of the interactions dropped from the training graph, drawn anew each epoch as in FREEDOM."""
    preserve_weight: float = 0.0
    """Weight of MARIO's decoders, which reconstruct the features from the fused vector."""
    contrast_weight: float = 0.0
    """Weight of InfoNCE between an item's ID view and each of its modalities."""
    temperature: float = 0.2
    """Temperature of InfoNCE."""
    cluster_weight: float = 0.0
    """Weight of the clustering loss of ``ids: hcgcn``."""
    l2: float = 1e-4
    """Weight of the L2 term on the ID embeddings and preferences in the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_literals(self)
        for name, kind in (self.content if isinstance(self.content, dict) else {"": self.content}).items():
            check_choice(("none", *CONTENT_ENCODERS), **{f"content[{name!r}]" if name else "content": kind})
        check_positive(dim=self.dim, num_layers=self.num_layers, modality_dim=self.modality_dim, num_clusters=self.num_clusters)
        check_positive(neighbors=self.neighbors, knn=self.knn, item_layers=self.item_layers, temperature=self.temperature)
        check_positive(knowledge_layers=self.knowledge_layers)
        check_non_negative(preserve_weight=self.preserve_weight, contrast_weight=self.contrast_weight, l2=self.l2)
        check_non_negative(cluster_weight=self.cluster_weight, init_std=self.init_std)
        if not 0 <= self.edge_dropout < 1:
            raise UsageError(f"edge_dropout must be at least 0 and less than 1, but is {self.edge_dropout}")
        if self.fusion == "modality_aware" and self.decoder != "inner_product":
            raise UsageError(
                f"modality_aware fusion scores by the inner product, but decoder is {self.decoder!r}; take another fusion"
            )
        if self.fusion == "modality_aware" and self.ranking != "bpr":
            raise UsageError("modality_aware fusion scores single pairs, but ranking is 'softmax'; take another fusion, or 'bpr'")
        if self.cluster_weight > 0 and self.ids != "hcgcn":
            raise UsageError(f"cluster_weight needs clusters, but ids is {self.ids!r}; set ids to 'hcgcn' or the weight to 0")
