"""MCPTR: Multi-Modal Contrastive Pre-training for Recommendation.

Z. Liu, Y. Ma, M. Schubert, Y. Ouyang, Z. Xiong. ICMR 2022, pages 99-108. https://doi.org/10.1145/3512527.3531378
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, ReadsUserFeatures
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.co_interaction import co_interaction_graph
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.encoder.co_interaction import CoInteractionEncoder, TextSetEncoder
from gmmrec.nn.fusion.by_name import FUSIONS
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import info_nce
from gmmrec.nn.project import project_rows
from gmmrec.nn.propagate import weighted_sum
from gmmrec.nn.relations import Relation
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM, ITEM_USER, USER, EdgeType, NodeType

SHARED_ITEMS: EdgeType = (USER, "shares_items", USER)
"""Users who have interacted with the same items."""
SHARED_USERS: EdgeType = (ITEM, "shares_users", ITEM)
"""Items that the same users have interacted with."""


@dataclass(frozen=True)
class MCPTRConfig:
    """Settings of MCPTR; the paper's are not known, the defaults are this implementation's."""

    dim: int = 64
    """Embedding width."""
    neighbors: int = 10
    """Number of neighbours of a user (an item): those with the most items (users) in common."""
    edge_weights: Literal["count", "cosine", "binary"] = "count"
    """Edge weight before normalisation: the number of common neighbours, that number divided by the root of the product of the
    degrees, or 1."""
    num_layers: int = 2
    """Number of layers on the user and item graphs; 0 removes these graphs."""
    graph_layer: Literal["light", "attention"] = "light"
    """Layer type: weighted sum over neighbours, or attention."""
    fusion: Literal["self_attention", "attention", "mean", "concat"] = "self_attention"
    """Fusion of text, image and graph into one vector; all but self-attention are for comparison."""
    contrast: tuple[str, str] | None = None
    """The two item modalities that are aligned. None: text and image if both are present, else the first two."""
    contrast_weight: float = 0.1
    """Weight of the contrastive term; 0 removes it."""
    temperature: float = 0.2
    """Temperature of the contrastive term."""
    l2: float = 0.0
    """Weight of the squared L2 norm of all parameters."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        check_positive(dim=self.dim, neighbors=self.neighbors, temperature=self.temperature)
        check_non_negative(num_layers=self.num_layers, contrast_weight=self.contrast_weight, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if self.contrast is not None:
            object.__setattr__(self, "contrast", tuple(self.contrast))
            if len(set(self.contrast)) != 2 or len(self.contrast) != 2:
                raise UsageError(f"contrast must name two different modalities, but is {list(self.contrast)}")


class MCPTR(Recommender[UserQuery, MCPTRConfig], FoldsInUsers, ReadsUserFeatures):
    """Pre-training of user and item vectors on texts, images and co-interactions, as a start for another recommender.

    A user fuses their reviews with their embedding in a graph of users who share items; an item fuses its modalities with its
    embedding in a graph of items that share users. Cross-entropy separates positives from negatives, and an item's text is aligned
    with its image. In the paper an existing model then starts from the vectors and is trained on interactions alone:
    ``gmmrec train -m lightgcn --init_from RUN``.

    RECONSTRUCTED from the abstract and second-hand accounts: neither text, code nor settings of the paper are known. The modules
    and the two losses are the paper's; the form of every module (weights and pruning of the graphs, graph layers, attention over
    reviews, self-attention between modalities, form of the contrastive term) is this implementation's.

    Additions: with one source only, as for users without reviews, nothing is fused and that source is the vector. A missing
    modality is masked out of the fusion; an item that lacks one of the two aligned modalities is left out of the contrast. New
    users, who are in no user graph, are the mean of the vectors of their items.

    Raises:
        UsageError: The items have no features, or ``contrast`` names a modality that they do not have.
    """

    def __init__(self, schema: GraphSchema, config: MCPTRConfig = MCPTRConfig()) -> None:
        super().__init__(schema, config)
        c, texts, names = config, schema.modalities(USER), schema.modalities(ITEM)
        if not names:
            raise UsageError(
                "MCPTR needs at least one modality of the items, but the data set has none; add a feature file or use lightgcn"
            )
        self.contrast = contrasted(names, c.contrast) if c.contrast_weight > 0 else None
        self.users = embedding_table(schema.num_nodes[USER], c.dim, c.init_std)
        self.items = embedding_table(schema.num_nodes[ITEM], c.dim, c.init_std)
        self.user_graph = CoInteractionEncoder(c.dim, c.num_layers, layer=c.graph_layer)
        self.item_graph = CoInteractionEncoder(c.dim, c.num_layers, layer=c.graph_layer)
        self.user_texts = nn.ModuleList(TextSetEncoder(schema.feature_dims[name], c.dim) for name in texts)
        self.project = nn.ModuleList(nn.Linear(schema.feature_dims[name], c.dim) for name in names)
        self.fuse_user = FUSIONS[c.fusion](c.dim, len(texts) + 1) if texts else None
        self.fuse_item = FUSIONS[c.fusion](c.dim, len(names) + 1)

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the two co-interaction graphs, built from training interactions."""
        for kind in (SHARED_ITEMS, SHARED_USERS) if self.config.num_layers else ():
            edges = co_interaction_graph(graph, kind[0], k=self.config.neighbors, weights=self.config.edge_weights)
            graph = graph.with_edges(kind, *edges)
        return graph

    def encode(self, graph: MultimodalGraph) -> Encoded:
        """Return the fused vectors p of users and q of items."""
        all_users, all_items = (torch.arange(graph.num_nodes(t), device=graph.degree(t).device) for t in (USER, ITEM))
        users = self._fused_users(graph, all_users)
        items, _ = self._fused_items(graph, all_items)
        is_new = graph.rows(USER) < 0
        if bool(is_new.any()):
            edge_index = graph.edges(ITEM_USER).edge_index
            messages = weighted_sum(edge_index, items, num_targets=len(users)) / graph.degree(USER).clamp(min=1)[:, None]
            users = torch.where(is_new[:, None], messages, users)
        return Encoded({"user": users, "item": items})

    def score(self, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Inner product of user and candidates; the paper's sigmoid of it gives the same ranking."""
        return inner_product(F.embedding(query.user, encoded["user"]), F.embedding(candidates, encoded["item"]))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Cross-entropy of positives and negatives, and contrast between two modalities of the positives, each item once."""
        users, user_position = torch.unique(batch.query.user, return_inverse=True)
        items, item_position = torch.unique(batch.candidates, return_inverse=True)
        fused, tokens = self._fused_items(graph, items)
        scores = self.score(
            Encoded({"user": self._fused_users(graph, users), "item": fused}), UserQuery(user_position), item_position
        )  # [B, 1 + K]
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1
        terms = {"bce": F.binary_cross_entropy_with_logits(scores, labels)}
        if self.contrast is not None:
            positive = torch.unique(item_position[:, 0])
            terms["contrast"] = self.config.contrast_weight * self._contrast(graph, items[positive], tokens, positive)
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * torch.stack([p.flatten().dot(p.flatten()) for p in self.parameters()]).sum()
        return terms

    def _contrast(self, graph: MultimodalGraph, items: Tensor, tokens: Mapping[str, Tensor], position: Tensor) -> Tensor:
        """Symmetric InfoNCE between the projected modalities of the items that have both."""
        assert self.contrast is not None
        one, other = self.contrast
        both = graph.features[one].present[items] & graph.features[other].present[items]
        position = position[both]
        if not len(position):
            return tokens[one].new_zeros(())
        x, y = tokens[one][position], tokens[other][position]
        return (info_nce(x, y, self.config.temperature) + info_nce(y, x, self.config.temperature)) / 2

    def _fused_users(self, graph: MultimodalGraph, rows: Tensor) -> Tensor:
        """Vectors p of the users in ``rows``: their graph embeddings, fused with their texts if the data set has any."""
        structural = F.embedding(rows, self._in_graph(graph, USER, self.users, self.user_graph))
        if self.fuse_user is None:
            return structural
        tokens, present = [structural], [torch.ones_like(rows, dtype=torch.bool)]
        for name, encoder in zip(self.schema.modalities(USER), self.user_texts, strict=True):
            table = graph.features[name]
            values, mask = (table.values, table.mask) if table.values.dim() == 3 else (table.values[:, None], table.mask[:, None])
            tokens.append(encoder(values, mask, rows))
            present.append(table.present[rows])
        fused: Tensor = self.fuse_user(torch.stack(tokens, dim=1), torch.stack(present, dim=1))
        return fused

    def _fused_items(self, graph: MultimodalGraph, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Vectors q of the items in ``rows``, and their projected modalities by name; both ``[n, dim]``."""
        names = self.schema.modalities(ITEM)
        tokens = {
            name: project_rows(graph.features[name].pooled, rows, project.weight, project.bias)  # type: ignore[arg-type]
            for name, project in zip(names, self.project, strict=True)
        }
        structural = F.embedding(rows, self._in_graph(graph, ITEM, self.items, self.item_graph))
        present = [graph.features[name].present[rows] for name in names] + [torch.ones_like(rows, dtype=torch.bool)]
        fused: Tensor = self.fuse_item(torch.stack([*tokens.values(), structural], dim=1), torch.stack(present, dim=1))
        return fused, tokens

    def _in_graph(self, graph: MultimodalGraph, node_type: NodeType, table: Tensor, encoder: nn.Module) -> Tensor:
        ids = graph.gather(node_type, table)
        if not self.config.num_layers:
            return ids
        relation = Relation(*graph.edges(SHARED_ITEMS if node_type == USER else SHARED_USERS))
        smoothed: Tensor = encoder(ids, relation)
        return smoothed


def contrasted(names: tuple[str, ...], requested: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the two modalities to align; None if there is only one.

    Raises:
        UsageError: A requested modality does not exist.

    >>> contrasted(("audio", "image", "text"), None), contrasted(("image", "title"), None), contrasted(("image",), None)
    (('text', 'image'), ('image', 'title'), None)
    """
    if requested is not None:
        for name in requested:
            if name not in names:
                raise UsageError(f"contrast names {name!r}, but the modalities of the items are {', '.join(map(repr, names))}")
        return requested
    if {"text", "image"} <= set(names):
        return ("text", "image")
    return (names[0], names[1]) if len(names) > 1 else None
