"""GraphFusion: graph encoders, item graphs, fusions and decoders in free combination.

No paper: the parts are those of MGAT, MMGCN, HCGCN, MCPTR, LightGCN, FREEDOM, LATTICE and MARIO, several of which are special cases
(see ``docs/models/graph-fusion.md``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from gmmrec.abilities import AcceptsParts, FoldsInUsers, IgnoresFeatures
from gmmrec.errors import UsageError
from gmmrec.graph.co_interaction import co_interaction_graph
from gmmrec.graph.denoise import denoised
from gmmrec.graph.knowledge import KNOWS, check_aligned, with_knowledge
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.graph.smoothing import ItemSmoothing
from gmmrec.models.graph_fusion.config import GraphFusionConfig
from gmmrec.models.graph_fusion.knowledge import KnowledgeEncoder
from gmmrec.models.graph_fusion.parts import NO_PARTS, OWN, Builder, OwnParts, preference_of
from gmmrec.nn.clustering import balance_loss, cut_loss
from gmmrec.nn.decoder.by_name import DECODERS, Decoder
from gmmrec.nn.decoder.inner_product import inner_product
from gmmrec.nn.decoder.modality_preserving import ModalityPreservingDecoder
from gmmrec.nn.encoder.by_name import content_encoder, propagation
from gmmrec.nn.fusion.by_name import FUSIONS
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.fusion.modality_aware import ModalityAwareFusion
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import bpr, contrast_with_first, embedding_norm
from gmmrec.nn.relations import Relation, UserItem
from gmmrec.recommender import Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ALIGNED, ENTITY, ENTITY_ITEM, ITEM, USER, EdgeType

SHARED_ITEMS: EdgeType = (USER, "shares_items", USER)
SHARED_USERS: EdgeType = (ITEM, "shares_users", ITEM)


class Views(NamedTuple):
    """Views of users and items before fusion: lists of ``[U, D]`` and ``[I, D]``, and the mask of views that items have."""

    user: list[Tensor]
    item: list[Tensor]
    present: Tensor  # [I, V]
    ids: UserItem


class ItemViews(NamedTuple):
    """Views of items that are fused for each user."""

    tokens: Tensor
    """``[I, V, D]``."""
    present: Tensor
    """``[I, V]``."""
    added: Tensor
    """Output of the item graph ``[I, D]``."""


@dataclass(frozen=True)
class GraphFusionEncoded(Encoded):
    """Fused vectors, and the views of the items where they are fused for each user."""

    item_views: ItemViews | None = None
    """Input of modality-aware fusion; None with other fusions."""


class GraphFusion(Recommender[UserQuery, GraphFusionConfig, GraphFusionEncoded], FoldsInUsers, IgnoresFeatures, AcceptsParts):
    """Views of users and items (their ID embeddings, every modality), each with its own graph encoder, are fused and decoded.

    The ID view comes first, then the modalities in the order of the data set. An item has the view of a modality if it has features
    there, and the ID view if it has training interactions; where it has none at all, all views count. Where a side has one view,
    there is nothing to fuse. Smoothed ID embeddings of the item graph are added after fusion.

    Args:
        schema: Sizes and names.
        config: Parts by name, and settings.
        parts: Builders of your own by role, in place of parts by name; see :mod:`gmmrec.models.graph_fusion.parts`.

    Raises:
        UsageError: The parts do not fit together, or name modalities that the items do not have.
    """

    def __init__(
        self, schema: GraphSchema, config: GraphFusionConfig = GraphFusionConfig(), parts: Mapping[str, Builder] = NO_PARTS
    ) -> None:
        super().__init__(schema, config)
        c, num_users, modalities = config, schema.num_nodes[USER], schema.modalities(ITEM)
        self.own = OwnParts(parts, modalities)
        self.kinds = self.own.contents(modalities, c.content)
        flows = any(kind not in ("linear", "perceptron") for kind in self.kinds.values())
        ids = OWN if "encoder" in self.own else c.ids
        if ids == "none" and not flows:
            raise UsageError(
                "no view provides user vectors; set ids to 'light', or content to an encoder with a graph, such as 'mgat'"
            )
        if ids == OWN and c.cluster_weight > 0:
            raise UsageError("cluster_weight needs the clusters of 'hcgcn', but the encoder is your own; set cluster_weight to 0")
        shared = ids != "none" or bool({"mgat", "mmgcn", OWN} & set(self.kinds.values()))
        self.users = embedding_table(num_users, c.dim, c.init_std) if shared else None
        smooths = c.item_graph != "none" or c.knowledge != "none"
        self.items = embedding_table(schema.num_nodes[ITEM], c.dim, c.init_std) if shared or smooths else None
        self.ids = None
        if ids == OWN:
            self.ids = self.own.build("encoder", c.dim, c.num_layers)
        elif ids != "none":
            self.ids = propagation(ids, c.dim, c.num_layers, num_clusters=c.num_clusters)
        self.content = nn.ModuleList(self._encoder(name, kind) for name, kind in self.kinds.items())
        num_views = len(self.kinds) + (ids != "none")
        num_user_views = (ids != "none") + sum(preference_of(encoder) is not None for encoder in self.content)
        if not num_user_views:
            raise UsageError("no view provides user vectors, as no content encoder has a preference; set ids to 'light'")
        self.fuse_user = self.fuse_item = None
        if num_user_views > 1:
            self.fuse_user = self._fusion("mean" if c.fusion == "modality_aware" else c.fusion, num_user_views)
        if num_views > 1:
            self.fuse_item = self._fusion(c.fusion, num_views)
        self.decode: Decoder
        self.decode = self.own.build("decoder", c.dim) if "decoder" in self.own else DECODERS[c.decoder](c.dim)
        self.own.check_used()
        self.preserve = self.smooth = self.entities = None
        if c.preserve_weight > 0 and modalities:
            self.preserve = ModalityPreservingDecoder(c.dim, [schema.feature_dims[name] for name in modalities])
        if c.item_graph != "none":
            self.smooth = ItemSmoothing(
                schema,
                c.item_graph,
                knn=c.knn,
                weighting=c.knn_weighting,
                degrees=c.knn_degrees,
                modality_weights=c.modality_weights,
                modality_dim=c.modality_dim,
                num_layers=c.item_layers,
                unit=c.item_unit,
            )
        if c.knowledge == "entity":
            check_aligned(schema.relations)
            self.entities = embedding_table(schema.num_nodes[ENTITY], c.dim, c.init_std)
            widths = [schema.feature_dims[name] for name in schema.modalities(ENTITY)]
            self.know = KnowledgeEncoder(c.knowledge_layers, widths, c.dim)

    @classmethod
    def with_parts(cls, schema: GraphSchema, config: Any, parts: Mapping[str, Any]) -> Self:
        """Build the model with parts by role; see :mod:`gmmrec.models.graph_fusion.parts`."""
        return cls(schema, config, parts)

    @property
    def custom_parts(self) -> Mapping[str, Any]:
        """Custom builders by role."""
        return self.own.builders

    @property
    def folds_in_users(self) -> bool:
        """True if vectors of users come out of their interactions with items."""
        still = {"none", "mf", "linear", "perceptron", "mcptr"}
        return not {OWN if "encoder" in self.own else self.config.ids, *self.kinds.values()} <= still

    @property
    def ignores_features(self) -> bool:
        """True without encoders of modalities, item graph and knowledge."""
        return not self.kinds and self.smooth is None and self.entities is None

    def _encoder(self, name: str, kind: str) -> nn.Module:
        c, num_users, width = self.config, self.schema.num_nodes[USER], self.schema.feature_dims[name]
        if kind == OWN:
            own: nn.Module = self.own.build(self.own.content_role(name), num_users, width, c.dim, c.num_layers)
            return own
        sizes = {"modality_dim": c.modality_dim, "num_clusters": c.num_clusters}
        return content_encoder(kind, num_users, width, c.dim, c.num_layers, init_std=c.init_std, **sizes)

    def _fusion(self, kind: str, num_views: int) -> nn.Module:
        dim = self.config.dim
        built: nn.Module = self.own.build("fusion", dim, num_views) if "fusion" in self.own else FUSIONS[kind](dim, num_views)
        return built

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the graphs that the chosen parts need: k-NN item graph, knowledge graph and co-interaction graphs."""
        if self.smooth is not None:
            graph = self.smooth.prepare(graph)
        if self.entities is not None:
            graph = with_knowledge(graph)
        if "mcptr" in ("" if "encoder" in self.own else self.config.ids, *self.kinds.values()):
            for kind in (SHARED_ITEMS, SHARED_USERS):
                graph = graph.with_edges(kind, *co_interaction_graph(graph, kind[0], k=self.config.neighbors))
        return graph

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Drop interactions and rebuild the learned item graph, if set."""
        graph = denoised(graph, self.config.edge_dropout, generator)
        return graph if self.smooth is None else self.smooth.mined(graph)

    def encode(self, graph: MultimodalGraph) -> GraphFusionEncoded:
        """Return fused vectors; with modality-aware fusion also the views, and their mean as ``item`` for comparing items."""
        views = self._views(graph)
        users = fused(self.fuse_user, views.user)
        added = self._added(graph, views.ids.item)
        if not isinstance(self.fuse_item, ModalityAwareFusion):
            items = fused(self.fuse_item, views.item, views.present)
            return GraphFusionEncoded({USER: users, ITEM: items if added is None else items + added})
        tokens = torch.stack(views.item, dim=1)
        added = torch.zeros_like(tokens[:, 0]) if added is None else added
        mean = (uniform_weights(tokens, views.present).unsqueeze(1) @ tokens).squeeze(1)
        return GraphFusionEncoded({USER: users, ITEM: mean + added}, ItemViews(tokens, views.present, added))

    def score(self, encoded: GraphFusionEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Decode the vectors of users and candidates, which modality-aware fusion fuses for each user."""
        users = F.embedding(query.user, encoded[USER])
        if not isinstance(self.fuse_item, ModalityAwareFusion) or encoded.item_views is None:
            return self.decode(users, F.embedding(candidates, encoded[ITEM]))
        tokens, present, added = encoded.item_views
        seen = self.fuse_item.score_rows(users, tokens, present, candidates)
        return seen + inner_product(users, F.embedding(candidates, added))

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return BPR or softmax, L2, and every term with a positive weight."""
        c, views = self.config, self._views(graph)
        users = fused(self.fuse_user, views.user)
        query, added = F.embedding(batch.query.user, users), self._added(graph, views.ids.item)
        if isinstance(self.fuse_item, ModalityAwareFusion):
            items = self.fuse_item.seen(query, torch.stack(views.item, dim=1), views.present, batch.candidates)
            if added is not None:
                items = items + F.embedding(batch.candidates, added)
        else:
            table = fused(self.fuse_item, views.item, views.present)
            table = table if added is None else table + added
            items = F.embedding(batch.candidates, table)  # [B, 1 + K, D]
        if c.ranking == "softmax":
            rows, position = batch.positive.unique(return_inverse=True)
            terms = {"softmax": F.cross_entropy(self.decode(query, F.embedding(rows, table)), position)}
        else:
            scores = self.decode(query, items)
            terms = {"bpr": bpr(scores[:, :1], scores[:, 1:])}
        if c.l2 > 0:
            terms["l2"] = c.l2 * self._norm(graph, batch)
        if self.preserve is not None:
            tables = [graph.features[name] for name in self.schema.modalities(ITEM)]
            present = torch.stack([table.present[batch.positive] for table in tables], dim=1)
            raw = [F.embedding(batch.positive, table.pooled) for table in tables]
            terms["preserve"] = c.preserve_weight * self.preserve.loss(items[:, 0], raw, present)
        if c.contrast_weight > 0:
            rows = batch.positive.unique()
            alike = contrast_with_first([F.embedding(rows, view) for view in views.item], views.present[rows], c.temperature)
            terms["contrast"] = c.contrast_weight * alike
        if c.cluster_weight > 0:
            edges, q = graph.bipartite, cast(UserItem, self.ids.assignment(views.ids))  # type: ignore[union-attr]
            both_ways = (edges.to_user, q.item, q.user), (edges.to_item, q.user, q.item)
            terms["cluster"] = c.cluster_weight * (cut_loss(*both_ways) + balance_loss(torch.cat(q)))
        return terms

    def _views(self, graph: MultimodalGraph) -> Views:
        ids = UserItem(*(x if x is None else graph.gather(t, x) for t, x in ((USER, self.users), (ITEM, self.items))))  # type: ignore[arg-type]
        edges = graph.bipartite
        if SHARED_ITEMS in graph.schema.relations:
            between = [Relation(*graph.edges(kind)) for kind in (SHARED_ITEMS, SHARED_USERS)]
            edges = edges._replace(between_users=between[0], between_items=between[1])
        users, items, present = [], [], []
        if self.ids is not None:
            user, item = self.ids(ids, edges)
            users.append(user)
            items.append(item)
            present.append((graph.degree(ITEM) > 0) & (graph.rows(ITEM) >= 0))
        for name, encoder in zip(self.kinds, self.content, strict=True):
            table = graph.features[name]
            features = table.unit if self.config.unit_features else table.pooled
            preference = preference_of(encoder)
            if preference is None:
                items.append(encoder(features))
            else:
                user, item = encoder(graph.gather(USER, preference), features, table.present, ids, edges)
                users.append(user)
                items.append(item)
            present.append(table.present)
        mask = torch.stack(present, dim=1)
        return Views(users, items, mask | ~mask.any(1, keepdim=True), ids)

    def _added(self, graph: MultimodalGraph, items: Tensor) -> Tensor | None:
        """Return the output of the item graph plus that of the knowledge graph; None without either."""
        smoothed = None if self.smooth is None else self.smooth(graph, items)
        if self.entities is None:
            return smoothed
        edges = (Relation(*graph.edges(kind)) for kind in (ALIGNED, KNOWS, ENTITY_ITEM))
        features = [graph.features[name].unit for name in self.schema.modalities(ENTITY)]
        known: Tensor = self.know(items, graph.gather(ENTITY, self.entities), *edges, features)
        return known if smoothed is None else smoothed + known

    def _norm(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> Tensor:
        """Return the L2 term of all embedding tables over their rows in the batch."""
        users = [self.users, *(preference_of(encoder) for encoder in self.content)]
        rows = [F.embedding(batch.query.user, graph.gather(USER, table)) for table in users if table is not None]
        if self.items is not None:
            rows.append(F.embedding(batch.candidates, graph.gather(ITEM, self.items)))
        return embedding_norm(*rows)


def fused(fusion: nn.Module | None, views: list[Tensor], present: Tensor | None = None) -> Tensor:
    """Return one vector per node, fused from views ``[N, D]``; a single view is returned unchanged."""
    if fusion is None:
        return views[0]
    result: Tensor = fusion(torch.stack(views, dim=1), present)
    if result.shape != views[0].shape:
        made = f"{type(fusion).__name__} made {list(result.shape)} of {len(views)} views {list(views[0].shape)}"
        raise UsageError(f"{made}; a fusion must return one vector per node, {list(views[0].shape)}")
    return result
