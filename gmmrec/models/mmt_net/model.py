"""MMT-Net: Transfer Learning via Contextual Invariants for One-to-Many Cross-Domain Recommendation.

A. Krishnan, M. Das, M. Bendre, H. Yang, H. Sundaram. SIGIR 2020. https://arxiv.org/abs/2005.10473
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, ReadsUserFeatures, WarmStarts
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.mmt_net.moments import RunningMoments
from gmmrec.models.mmt_net.standardize import Standardize
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.fusion.context import ContextFusion, ContextModulation, ResidualAdapter
from gmmrec.nn.init import embedding_table
from gmmrec.nn.loss import embedding_norm
from gmmrec.nn.masked import hide_missing
from gmmrec.nn.propagate import weighted_sum
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, ContextQuery
from gmmrec.typing import ITEM_USER, NodeType

Group = Literal["interactional", "historical", "attributional"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Groups of context columns: of the event, of the history of user and item, and of their attributes."""
PARTS = ("user", "item", "pair")
"""Owners of context columns; columns of the event belong to the user."""

CLOSE = 0.1
"""Offset of distances in the logarithm, in standard deviations; smaller distances are hardly distinguished."""
CELLS = 2**20
"""Maximum number of values in a chunk of pairs: 4 MB."""


@dataclass(frozen=True)
class MMTNetConfig:
    """Settings of MMT-Net; the paper's are not known, the defaults are those of this reconstruction."""

    dim: int = 64
    """Width of embeddings and of the fused context."""
    order: int = 2
    """Number of layers of the context module, the highest order of products of context features; 1 for a plain layer."""
    residual: bool = True
    """Shift every group of the context by a function of the others."""
    num_layers: int = 1
    """Number of layers on an embedding after its product with the context; 0 for the product alone."""
    groups: tuple[Group, ...] = GROUPS
    """Groups of the context in use: the event's own (``interactional``), degrees and the mean features of the user's items
    (``historical``), features and their distance from that mean (``attributional``)."""
    context_dim: int = 5
    """Width of the event context; that of its time is 5."""
    feature_dim: int = 16
    """Width to which wider modalities are projected first."""
    transfer: Literal["none", "layers", "drr"] = "none"
    """Transfer of the modules of the source, the run of ``init_from``: ``layers`` trains a copy of them, ``drr`` freezes them and
    learns residuals on their inputs."""
    moment_weight: float = 0.1
    """Weight of the term that keeps the output distribution of adapted modules near the source's; for ``drr``."""
    loss: Literal["bce", "squared"] = "bce"
    """Binary cross-entropy of positives and negatives, or squared error of scores against 1 and 0."""
    l2: float = 1e-4
    """Weight of the L2 term on the embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier uniform initialisation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        check_positive(dim=self.dim, order=self.order, context_dim=self.context_dim, feature_dim=self.feature_dim)
        check_non_negative(num_layers=self.num_layers, moment_weight=self.moment_weight, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if not self.groups:
            raise UsageError(f"groups must name at least one of {', '.join(map(repr, GROUPS))}, but is empty")


class Side(NamedTuple):
    """User or item half of a pair.

    Attributes:
        vector: Embedding ``[..., d]``.
        bias: ``[..., 1]``.
        context: Context columns of this side ``[..., F]``.
        profile: Concatenated features of all item modalities, or their mean over the user's items ``[..., D]``.
        has: 1.0 for modalities present in the profile, else 0.0 ``[..., M]``.
    """

    vector: Tensor
    bias: Tensor
    context: Tensor
    profile: Tensor
    has: Tensor

    def at(self, rows: Tensor) -> "Side":
        """Return the sides of the nodes in ``rows``."""
        return Side(*(F.embedding(rows, values) for values in self))


@dataclass(frozen=True)
class MMTNetEncoded(Encoded):
    """Embeddings, and both sides of all pairs."""

    user_side: Side
    item_side: Side


class MMTNet(Recommender[ContextQuery, MMTNetConfig, MMTNetEncoded], WarmStarts, FoldsInUsers, ReadsUserFeatures):
    """Context-conditioned user and item embeddings, with context modules that transfer between domains.

    A RECONSTRUCTION: the roles of the modules are known from the abstract and a summary of the paper, the equations are this
    implementation's. The context module (M1) multiplies context features, the conditioning (M3) multiplies embeddings by the result
    and maps them; neither depends on the number of users and items, so both can be loaded from a source by ``start_from``.
    Embeddings (M2) and the scorer's biases (M4) are specific to each domain.

    Besides the event's own context, given in the query, the context of a pair is computed from the graph: degrees, features of the
    item and mean features of the user's items, and the distance between the two for every modality, all standardised within the
    domain. A training interaction is not part of its own history: degrees and means exclude it.
    """

    event_mean: Tensor
    events: Tensor

    def __init__(self, schema: GraphSchema, config: MMTNetConfig = MMTNetConfig()) -> None:
        super().__init__(schema, config)
        self.names = {kind: schema.modalities(kind) for kind in ("user", "item")}
        modalities, dim = [*self.names["user"], *self.names["item"]], config.dim
        self.widths = {name: min(schema.feature_dims[name], config.feature_dim) for name in modalities}
        layout = self._layout()
        ends = [0, *itertools.accumulate(width for widths in layout for width in widths)]
        for position, part in enumerate(PARTS):
            ranges = itertools.islice(itertools.pairwise(ends), position, None, len(PARTS))
            self.register_buffer(
                f"{part}_columns", torch.cat([torch.arange(first, end) for first, end in ranges]), persistent=False
            )

        # M1 and M3, shared between domains
        self.projections = nn.ModuleList(
            nn.Identity() if schema.feature_dims[name] == width else nn.Linear(schema.feature_dims[name], width, bias=False)
            for name, width in self.widths.items()
        )
        self.context = ContextFusion(dim, len(layout), config.order, residual=config.residual, widths=[sum(w) for w in layout])
        last = self.context.layers[-1] if config.order > 1 else self.context.first
        assert isinstance(last, nn.Linear)
        nn.init.ones_(last.bias)  # with a weak context, embeddings are nearly unchanged
        self.reshape = nn.ModuleDict({kind: ContextModulation(dim, config.num_layers) for kind in ("user", "item")})
        self.moments = nn.ModuleDict({name: RunningMoments(dim) for name in ("context", "user", "item")})

        # M2 and M4, specific to each domain
        self.users = embedding_table(schema.num_nodes["user"], dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], dim, config.init_std)
        self.user_bias = nn.Parameter(torch.zeros(schema.num_nodes["user"], 1))
        self.item_bias = nn.Parameter(torch.zeros(schema.num_nodes["item"], 1))
        self.context_bias = nn.Linear(dim, 1)
        self.degrees = nn.ModuleDict({kind: Standardize(1) for kind in ("user", "item")})
        self.features = nn.ModuleList(Standardize(schema.feature_dims[name]) for name in modalities)
        self.register_buffer("event_mean", torch.zeros(config.context_dim))
        self.register_buffer("events", torch.zeros((), dtype=torch.long))

        self.adapters: nn.ModuleDict | None = None
        if config.transfer == "drr":
            for module in self._shared():
                module.requires_grad_(False)
            sizes = {part: self._columns(part).numel() for part in PARTS} | {"context": dim}
            self.adapters = nn.ModuleDict({name: ResidualAdapter(size) for name, size in sizes.items() if size})

    def start_from(self, source: AnyRecommender) -> bool:
        """Load M1 and M3 of a source, the moments of their outputs, and its context bias as an initial value.

        Raises:
            UsageError: The source is not an MMT-Net, or has another context or other widths.
        """
        if self.config.transfer == "none":
            return False
        if not isinstance(source, MMTNet):
            raise UsageError(
                f"transfer {self.config.transfer!r} needs a run of mmt-net to start from, not of {type(source).__name__}"
            )
        pairs = list(zip((*self._shared(), self.context_bias), (*source._shared(), source.context_bias), strict=True))
        shapes = [
            [{name: v.shape for name, v in module.state_dict().items()} for module in side] for side in zip(*pairs, strict=True)
        ]
        if self.names != source.names or self.config.groups != source.config.groups or shapes[0] != shapes[1]:
            raise UsageError(
                "the source has another context or other widths, so its modules do not fit; give both runs the same modalities, "
                "groups, dim, order, residual, num_layers, context_dim and feature_dim"
            )
        for module, source_module in (*pairs, (self.moments, source.moments)):
            module.load_state_dict(source_module.state_dict())
        return True

    @torch.no_grad()
    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Fit the standardisation of degrees and features, which puts all domains on the same scale."""
        for kind, module in self.degrees.items():
            assert isinstance(module, Standardize)
            module.fit(graph.degree(kind)[:, None].log1p())
        for name, module in zip(self.widths, self.features, strict=True):
            assert isinstance(module, Standardize)
            module.fit(graph.features[name].pooled, graph.features[name].present)
        return graph

    def encode(self, graph: MultimodalGraph) -> MMTNetEncoded:
        """Return embeddings ``user`` and ``item``, and both sides of all pairs."""
        users, items = self._users(graph), self._items(graph)
        return MMTNetEncoded({"user": users.vector, "item": items.vector}, users, items)

    def score(self, encoded: MMTNetEncoded, query: ContextQuery, candidates: Tensor) -> Tensor:
        """Score every pair in the context of event, user, item and pair, in chunks of candidates.

        A query without a context gets the mean context of training.
        """
        item = encoded.item_side
        user = self._in_event(encoded.user_side.at(query.user), query)
        user = Side(*(values.unsqueeze(1) for values in user))
        width = sum(self._columns(part).numel() for part in PARTS) + 4 * self.config.dim
        step = block_rows(CELLS, len(query) * width)
        return in_chunks(lambda part: self._pairs(user, item.at(candidates[..., part]))[0], candidates.shape[-1], step)

    def loss(self, graph: MultimodalGraph, batch: Batch[ContextQuery]) -> dict[str, Tensor]:
        """Loss of positives and negatives in the same event, each with its item's context; the moment term (``drr``), and L2."""
        self._update_event_mean(batch.query)
        items, rows = self._items(graph), batch.candidates
        user = self._in_event(self._users(graph, items, (batch.query.user, batch.positive)), batch.query)
        item = items.at(rows)
        if "historical" in self.config.groups:  # the first column is the degree
            degree = graph.degree("item")[rows]
            degree[:, 0].sub_(1).clamp_(min=0)
            context = torch.cat([self._degree("item", degree), item.context[..., 1:]], -1)
            item = item._replace(context=context)
        scores, outputs = self._pairs(Side(*(values.unsqueeze(1) for values in user)), item)
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1.0
        criterion = F.binary_cross_entropy_with_logits if self.config.loss == "bce" else F.mse_loss
        terms: dict[str, Tensor] = {self.config.loss: criterion(scores, labels)}
        if self.adapters is not None:
            terms["moments"] = self.config.moment_weight * self._moment_distance(outputs)
        elif self.training:
            for name, output in outputs.items():
                moments = self.moments[name]
                assert isinstance(moments, RunningMoments)
                moments.update(output)
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(user.vector, item.vector)
        return terms

    def _layout(self) -> list[tuple[int, int, int]]:
        """Number of columns of user (the event's first), item and pair, per group."""
        by_kind = {kind: sum(self.widths[name] + 1 for name in names) for kind, names in self.names.items()}
        sizes: dict[str, tuple[int, int, int]] = {
            "interactional": (self.config.context_dim, 0, 0),
            "historical": (1 + by_kind["item"], 1, 0),
            "attributional": (by_kind["user"], by_kind["item"], len(self.names["item"])),
        }
        layout = [sizes[group] for group in GROUPS if group in self.config.groups and any(sizes[group])]
        if not layout:
            raise UsageError("the only context group is 'attributional', but there are no features; add groups or features")
        return layout

    def _columns(self, part: str) -> Tensor:
        """Positions of an owner's columns in the context."""
        columns: Tensor = getattr(self, f"{part}_columns")
        return columns

    def _shared(self) -> tuple[nn.Module, ...]:
        """Modules shared between domains: M1 with its input projections, and M3."""
        return self.projections, self.context, self.reshape

    def _degree(self, kind: NodeType, degree: Tensor) -> Tensor:
        """Standardised log-degree column ``[..., 1]``."""
        column: Tensor = self.degrees[kind](degree.unsqueeze(-1).log1p())
        return column

    def _attributes(self, graph: MultimodalGraph, kind: NodeType) -> tuple[Tensor, Tensor]:
        """Features ``[N, D]``, zeros where missing, and the mask of modalities present ``[N, M]``."""
        values, has = [graph.degree(kind).new_empty(graph.num_nodes(kind), 0)], []
        for name, standardize, project in zip(self.widths, self.features, self.projections, strict=True):
            if name in self.names[kind]:
                table = graph.features[name]
                values.append(hide_missing(project(standardize(table.pooled)), table.present))
                has.append(table.present)
        return torch.cat(values, 1), torch.stack(has, 1).float() if has else values[0]

    def _items(self, graph: MultimodalGraph) -> Side:
        """Item side of all items."""
        values, has = self._attributes(graph, "item")
        groups = {"historical": [self._degree("item", graph.degree("item"))], "attributional": [values, has]}
        vector, bias = graph.gather("item", self.items), graph.gather("item", self.item_bias)
        return Side(vector, bias, self._concat_groups(groups, values), values, has)

    def _users(self, graph: MultimodalGraph, items: Side | None = None, events: tuple[Tensor, Tensor] | None = None) -> Side:
        """User side of all users, or of training events (users ``[B]``, items ``[B]``), whose history excludes the event."""
        items = self._items(graph) if items is None else items
        known = torch.cat([items.profile, items.has], 1)
        total = known.new_zeros(graph.num_nodes("user"), known.shape[1])
        if known.shape[1]:
            total = weighted_sum(graph.edges(ITEM_USER).edge_index, known, num_targets=len(total))
        vector, bias, degree = graph.gather("user", self.users), graph.gather("user", self.user_bias), graph.degree("user")
        values, has = self._attributes(graph, "user")
        if events is not None:
            user, item = events
            vector, bias, values, has = (F.embedding(user, table) for table in (vector, bias, values, has))
            total, degree = total[user] - known[item], (degree[user] - 1).clamp(min=0)
        sums, counts = total.split([items.profile.shape[1], items.has.shape[1]], 1)
        present = (counts > 0.5).float()
        widths = torch.tensor([self.widths[name] for name in self.names["item"]], dtype=torch.long, device=sums.device)
        share = (present / counts.clamp(min=1)).repeat_interleave(widths, 1, output_size=sums.shape[1])
        profile = sums * share
        groups = {"historical": [self._degree("user", degree), profile, present], "attributional": [values, has]}
        return Side(vector, bias, self._concat_groups(groups, profile), profile, present)

    def _concat_groups(self, groups: Mapping[str, list[Tensor]], like: Tensor) -> Tensor:
        """Concatenate the columns of the groups in use."""
        used = [columns for group, of_group in groups.items() if group in self.config.groups for columns in of_group]
        return torch.cat([like[:, :0], *used], 1)

    def _in_event(self, user: Side, query: ContextQuery) -> Side:
        """Users with the context of their events, or with the mean context of training if the query has none."""
        if "interactional" not in self.config.groups:
            return user
        event = self.event_mean.expand(len(query), -1) if query.context is None else query.context
        if event.shape[1] != len(self.event_mean):
            raise UsageError(
                f"contexts must have {len(self.event_mean)} columns, but have {event.shape[1]}; set context_dim to their number"
            )
        return user._replace(context=torch.cat([event, user.context], 1))

    def _pairs(self, user: Side, item: Side) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores ``[B, C]``, outputs of M1, M3 ``[B, C, d]``. Users are ``[B, 1, ...]``, items ``[C, ...]`` or ``[B, C, ...]``."""
        values = {"user": user.context, "item": item.context, "pair": self._distances(user, item)}
        values = {part: columns for part, columns in values.items() if columns.shape[-1]}
        if self.adapters is not None:
            values = {part: self.adapters[part](columns) for part, columns in values.items()}
        context = self.context.of_parts(*((columns, self._columns(part)) for part, columns in values.items()))
        adapted = context if self.adapters is None else self.adapters["context"](context)
        users, items = self.reshape["user"](user.vector, adapted), self.reshape["item"](item.vector, adapted)
        scores = (users * items).sum(-1) + (user.bias + item.bias + self.context_bias(context)).squeeze(-1)
        return scores, {"context": context, "user": users, "item": items}

    def _distances(self, user: Side, item: Side) -> Tensor:
        """Log-distance of the item from the user's profile by modality ``[B, C, M]``; 0 where a modality is missing."""
        if "attributional" not in self.config.groups or not self.names["item"]:
            return user.context[..., :0]
        columns, start = [], 0
        for width in (self.widths[name] for name in self.names["item"]):
            left, right = user.profile[..., start : start + width], item.profile[..., start : start + width]
            shared = right.dim() == 2
            left = left[:, 0] if shared else left
            distance = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")  # exact for small distances
            columns.append((distance if shared else distance[:, 0]) / width**0.5)
            start += width
        return (torch.stack(columns, -1) + CLOSE).log() * user.has * item.has

    @torch.no_grad()
    def _update_event_mean(self, query: ContextQuery) -> None:
        """Update the mean context with a training batch."""
        if self.training and query.context is not None and "interactional" in self.config.groups:
            self.events += len(query)
            self.event_mean.lerp_(query.context.mean(0), (len(query) / self.events).to(self.event_mean))

    def _moment_distance(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Distance of the outputs of M1 and M3 from their distribution in the source."""
        distances = []
        for name, output in outputs.items():
            moments = self.moments[name]
            assert isinstance(moments, RunningMoments)
            if moments.is_empty:
                raise UsageError("transfer 'drr' needs a source, but the model has none; name a finished run with init_from")
            distances.append(moments.distance(output))
        return torch.stack(distances).sum()
