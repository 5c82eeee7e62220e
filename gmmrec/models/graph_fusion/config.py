"""Settings of GraphFusion, and the names of its parts."""

from dataclasses import dataclass
from typing import Literal

from gmmrec.config import check_choice, check_literals, check_non_negative, check_positive
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
    """Which parts, and their settings."""

    ids: Ids = "light"
    """What becomes of the ID embeddings: nothing (``mf``), light propagation (``self_loops``: as in LATTICE), propagation in
    clusters (``hcgcn``) or on graphs of co-interactions (``mcptr``); ``none``: they are no view of their own."""
    content: str | dict[str, str] = "none"
    """Encoder of every modality, or one for each by name: a ``linear`` map, a ``perceptron``, or features and preferences of users
    that flow as in ``ids``, or through the layers of MGAT or MMGCN; ``none`` leaves the modality to the item graph."""
    unit_features: bool = True
    """Whether features are brought to length 1 before they are encoded, so that no modality is loud by its units alone."""
    fusion: Fusion = "mean"
    """How the views of a node become one vector; ``modality_aware`` does it anew for every user."""
    item_graph: Literal["none", "frozen", "learned"] = "frozen"
    """ID embeddings of items smoothed along nearest neighbours by features are added to the items: a graph of the raw features, or
    LATTICE's, which mixes that (by cosines) with one of projected features."""
    decoder: Literal["inner_product", "bilinear", "mlp"] = "inner_product"
    """How a score is made of a user's and an item's vector."""
    ranking: Literal["bpr", "softmax"] = "bpr"
    """How an interaction is learned: its item above the drawn negatives, or as the right one among all items of the batch."""
    dim: int = 64
    """Size of every vector."""
    num_layers: int = 2
    """Number of layers of every encoder."""
    modality_dim: int = 64
    """Width of a modality before the first layer of MGAT or MMGCN."""
    num_clusters: int = 8
    """Clusters of ``hcgcn``."""
    neighbors: int = 10
    """Neighbours on the graphs of co-interactions of ``mcptr``."""
    knn: int = 10
    """Neighbours an item has in the item graph by each modality, itself included."""
    knn_weighting: Weighting = "binary"
    """Whether neighbours by features count alike or by their cosine similarity, at least 0."""
    knn_degrees: Literal["incoming", "both_ends"] = "incoming"
    """How a neighbour's share is normalised; see :func:`gmmrec.graph.edges.normalize`."""
    modality_weights: dict[str, float] | None = None
    """Share of every modality in the item graph, by name. None: 0.1 for image and 0.9 for text alone, else equal shares."""
    item_layers: int = 1
    """Number of propagation steps on the item graph."""
    item_unit: bool = False
    """Whether what the item graph adds is brought to unit length, as in LATTICE and HCGCN."""
    knowledge: Literal["none", "entity"] = "none"
    """Whether items aligned with entities of a knowledge graph learn from each other through the facts about them: ID
    embeddings that flow from item to entity to item are added too, and so are features of entities where the data have any."""
    knowledge_layers: int = 2
    """Steps from entity to entity; two lead from a film over its actors to other films."""
    edge_dropout: float = 0.0
    """Share of the interactions that is removed from the training graph anew each epoch, as in FREEDOM."""
    preserve_weight: float = 0.0
    """Weight of MARIO's decoders, which find the features again in the fused vector."""
    contrast_weight: float = 0.0
    """Weight of InfoNCE between an item's ID view and each of its modalities."""
    temperature: float = 0.2
    """Temperature of that contrast."""
    cluster_weight: float = 0.0
    """Weight of the clustering loss of ``ids: hcgcn``."""
    l2: float = 1e-4
    """Weight of the L2 term on the ID embeddings and preferences of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

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
            raise ValueError(f"edge_dropout must be at least 0 and less than 1, but is {self.edge_dropout}")
        if self.fusion == "modality_aware" and self.decoder != "inner_product":
            raise ValueError(
                f"modality_aware fusion scores by the inner product, but decoder is {self.decoder!r}; take another fusion"
            )
        if self.fusion == "modality_aware" and self.ranking != "bpr":
            raise ValueError("modality_aware fusion looks at single pairs, but ranking is 'softmax'; take another fusion, or 'bpr'")
        if self.cluster_weight > 0 and self.ids != "hcgcn":
            raise ValueError(f"cluster_weight needs clusters, but ids is {self.ids!r}; set ids to 'hcgcn' or the weight to 0")
