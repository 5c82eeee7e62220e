"""MMT-Net: Transfer Learning via Contextual Invariants for One-to-Many Cross-Domain Recommendation.

A. Krishnan, M. Das, M. Bendre, H. Yang, H. Sundaram. SIGIR 2020. https://arxiv.org/abs/2005.10473
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, WarmStarts
from gmmrec.config import check_literals, check_non_negative, check_positive
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models.mmt_net.moments import RunningMoments
from gmmrec.models.mmt_net.standardize import Standardize
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
"""What of the context belongs to the event, to the past of user and item, and to what they are."""
PARTS = ("user", "item", "pair")
"""Whose a column of the context is; those of the event count as the user's."""

CLOSE = 0.1
"""Distances, in standard deviations, below which it hardly matters how small they are."""
CELLS = 2**20
"""Numbers a chunk of pairs may hold at once: 4 MB."""


@dataclass(frozen=True)
class MMTNetConfig:
    """Settings of MMT-Net; the paper's are not known, these are those of its reconstruction."""

    dim: int = 64
    """Size of embeddings and of the fused context."""
    order: int = 2
    """Layers of the context module: the most context features that are multiplied with each other; 1 for a plain layer."""
    residual: bool = True
    """Whether every group of the context is shifted by what the others say."""
    num_layers: int = 1
    """Layers on an embedding after the context was multiplied in; 0 for the product alone."""
    groups: tuple[Group, ...] = GROUPS
    """Which groups of the context are used: the event's own (``interactional``), degrees and the mean features of the user's items
    (``historical``), features and their distance from that mean (``attributional``)."""
    context_dim: int = 5
    """Width of the context of an event; that of its time is 5 wide."""
    feature_dim: int = 16
    """Modalities that are wider are projected to this many numbers first."""
    transfer: Literal["none", "layers", "drr"] = "none"
    """What becomes of the modules of the source, the run of ``init_from``: ``layers`` trains a copy of them, ``drr`` freezes them
    and learns residuals in front."""
    moment_weight: float = 0.1
    """Weight of the term that keeps the outputs of adapted modules distributed as in the source; for ``drr``."""
    loss: Literal["bce", "squared"] = "bce"
    """Binary cross-entropy of positives and negatives, or squared distance of scores from 1 and 0."""
    l2: float = 1e-4
    """Weight of the L2 term on the embeddings of the batch."""
    init_std: float = 0.1
    """Standard deviation of the initial embeddings; 0 for Xavier's uniform values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        check_positive(dim=self.dim, order=self.order, context_dim=self.context_dim, feature_dim=self.feature_dim)
        check_non_negative(num_layers=self.num_layers, moment_weight=self.moment_weight, l2=self.l2, init_std=self.init_std)
        check_literals(self)
        if not self.groups:
            raise ValueError(f"groups must name at least one of {', '.join(map(repr, GROUPS))}, but is empty")


class Side(NamedTuple):
    """What a pair needs of its user, or of its item.

    Attributes:
        vector: Embedding ``[..., d]``.
        bias: ``[..., 1]``.
        context: Its columns of the context ``[..., F]``.
        profile: Features of all modalities of the items, side by side, or their mean over the user's items ``[..., D]``.
        has: 1.0 where there are such, 0.0 where not, by modality ``[..., M]``.
    """

    vector: Tensor
    bias: Tensor
    context: Tensor
    profile: Tensor
    has: Tensor

    def at(self, rows: Tensor) -> "Side":
        """Of some nodes."""
        return Side(*(F.embedding(rows, values) for values in self))


@dataclass(frozen=True)
class MMTNetEncoded(Encoded):
    """Embeddings, and everything else that a pair needs of its two sides."""

    user_side: Side
    item_side: Side


class MMTNet(Recommender[ContextQuery, MMTNetConfig, MMTNetEncoded], WarmStarts, FoldsInUsers):
    """The context of an event reshapes users and items; how it does so holds in every domain, and is learned in one for all.

    A RECONSTRUCTION: the roles of the modules are known from the abstract and a summary of the paper, the equations are ours. The
    context module (M1) multiplies features of the context, the conditioning (M3) multiplies embeddings by the result and maps them;
    neither knows how many users and items there are, so that both can be taken over from a source by ``start_from``. Embeddings
    (M2) and the scorer's biases (M4) are each domain's own.

    Beside the event's own context, which the query brings, the context of a pair is made of the graph: degrees, features of the
    item and mean features of the user's items, and the distance between the two for every modality, all standardised within the
    domain. An interaction that is learned is no part of its own past: degrees and means are taken without it.
    """

    event_mean: Tensor
    events: Tensor

    def __init__(self, schema: GraphSchema, config: MMTNetConfig = MMTNetConfig()) -> None:
        super().__init__(schema, config)
        self.names = {kind: schema.modalities(kind) for kind in ("user", "item")}
        own, dim = [*self.names["user"], *self.names["item"]], config.dim
        self.widths = {name: min(schema.feature_dims[name], config.feature_dim) for name in own}
        layout = self._layout()
        for position, part in enumerate(PARTS):
            owner = torch.arange(len(PARTS)).repeat(len(layout)).repeat_interleave(torch.tensor(layout).flatten())
            self.register_buffer(f"{part}_columns", (owner == position).nonzero().flatten(), persistent=False)

        # M1 and M3, which domains share
        self.projections = nn.ModuleList(
            nn.Identity() if schema.feature_dims[name] == width else nn.Linear(schema.feature_dims[name], width, bias=False)
            for name, width in self.widths.items()
        )
        self.context = ContextFusion(dim, len(layout), config.order, residual=config.residual, widths=[sum(w) for w in layout])
        last = self.context.layers[-1] if config.order > 1 else self.context.first
        assert isinstance(last, nn.Linear)
        nn.init.ones_(last.bias)  # a context that says little leaves embeddings much as they are
        self.reshape = nn.ModuleDict({kind: ContextModulation(dim, config.num_layers) for kind in ("user", "item")})
        self.moments = nn.ModuleDict({name: RunningMoments(dim) for name in ("context", "user", "item")})

        # M2 and M4, which every domain has for itself
        self.users = embedding_table(schema.num_nodes["user"], dim, config.init_std)
        self.items = embedding_table(schema.num_nodes["item"], dim, config.init_std)
        self.user_bias = nn.Parameter(torch.zeros(schema.num_nodes["user"], 1))
        self.item_bias = nn.Parameter(torch.zeros(schema.num_nodes["item"], 1))
        self.context_bias = nn.Linear(dim, 1)
        self.degrees = nn.ModuleDict({kind: Standardize(1) for kind in ("user", "item")})
        self.features = nn.ModuleList(Standardize(schema.feature_dims[name]) for name in own)
        self.register_buffer("event_mean", torch.zeros(config.context_dim))
        self.register_buffer("events", torch.zeros((), dtype=torch.long))

        self.adapters: nn.ModuleDict | None = None
        if config.transfer == "drr":
            for module in self._shared():
                module.requires_grad_(False)
            sizes = {part: self._columns(part).numel() for part in PARTS} | {"context": dim}
            self.adapters = nn.ModuleDict({name: ResidualAdapter(size) for name, size in sizes.items() if size})

    def start_from(self, source: AnyRecommender) -> bool:
        """Takes over M1 and M3 of a source, how their outputs are distributed, and the context bias to begin with.

        Raises:
            ValueError: The source is no MMT-Net, or one with another context or other widths.
        """
        if self.config.transfer == "none":
            return False
        if not isinstance(source, MMTNet):
            raise ValueError(
                f"transfer {self.config.transfer!r} needs a run of mmt-net to start from, not of {type(source).__name__}"
            )
        pairs = list(zip((*self._shared(), self.context_bias), (*source._shared(), source.context_bias), strict=True))
        shapes = [
            [{name: v.shape for name, v in module.state_dict().items()} for module in side] for side in zip(*pairs, strict=True)
        ]
        if self.names != source.names or self.config.groups != source.config.groups or shapes[0] != shapes[1]:
            raise ValueError(
                "the source has another context or other widths, so its modules do not fit; give both runs the same modalities, "
                "groups, dim, order, residual, num_layers, context_dim and feature_dim"
            )
        for own, theirs in (*pairs, (self.moments, source.moments)):
            own.load_state_dict(theirs.state_dict())
        return True

    @torch.no_grad()
    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Takes note of mean and deviation of degrees and features, so that all domains have the same scale."""
        for kind, module in self.degrees.items():
            assert isinstance(module, Standardize)
            module.fit(graph.degree(kind)[:, None].log1p())
        for name, module in zip(self.widths, self.features, strict=True):
            assert isinstance(module, Standardize)
            module.fit(graph.features[name].pooled, graph.features[name].present)
        return graph

    def encode(self, graph: MultimodalGraph) -> MMTNetEncoded:
        """Embeddings ``user`` and ``item``, and both sides of all pairs."""
        users, items = self._users(graph), self._items(graph)
        return MMTNetEncoded({"user": users.vector, "item": items.vector}, users, items)

    def score(self, encoded: MMTNetEncoded, query: ContextQuery, candidates: Tensor) -> Tensor:
        """Every pair in the context that is the event's, the user's, the item's and their own; a chunk of candidates at a time.

        Where the query has no context, the mean one of training takes its place.
        """
        item = encoded.item_side
        user = self._in_event(encoded.user_side.at(query.user), query)
        user = Side(*(values.unsqueeze(1) for values in user))
        width = sum(self._columns(part).numel() for part in PARTS) + 4 * self.config.dim
        step = CELLS // max(1, len(query) * width)
        return in_chunks(lambda part: self._pairs(user, item.at(candidates[..., part]))[0], candidates.shape[-1], step)

    def loss(self, graph: MultimodalGraph, batch: Batch[ContextQuery]) -> dict[str, Tensor]:
        """Positives against negatives in the same event, each with the context of its own item; what keeps moments, and L2."""
        self._remember(batch.query)
        items, rows = self._items(graph), batch.candidates
        user = self._in_event(self._users(graph, items, (batch.query.user, batch.positive)), batch.query)
        item = items.at(rows)
        if "historical" in self.config.groups:  # the first column is the degree
            degree = graph.degree("item")[rows]
            degree[:, 0].sub_(1).clamp_(min=0)
            context = torch.cat([self._degree("item", degree), item.context[..., 1:]], -1)
            item = item._replace(context=context)
        scores, outputs = self._pairs(Side(*(values.unsqueeze(1) for values in user)), item)
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1.0
        fit = F.binary_cross_entropy_with_logits if self.config.loss == "bce" else F.mse_loss
        terms: dict[str, Tensor] = {self.config.loss: fit(scores, wanted)}
        if self.adapters is not None:
            terms["moments"] = self.config.moment_weight * self._distance(outputs)
        elif self.training:
            for name, output in outputs.items():
                moments = self.moments[name]
                assert isinstance(moments, RunningMoments)
                moments.update(output)
        if self.config.l2 > 0:
            terms["l2"] = self.config.l2 * embedding_norm(user.vector, item.vector)
        return terms

    def _layout(self) -> list[tuple[int, int, int]]:
        """Columns of every group that are the user's (the event's first), the item's, and the pair's."""
        by_kind = {kind: sum(self.widths[name] + 1 for name in names) for kind, names in self.names.items()}
        sizes: dict[str, tuple[int, int, int]] = {
            "interactional": (self.config.context_dim, 0, 0),
            "historical": (1 + by_kind["item"], 1, 0),
            "attributional": (by_kind["user"], by_kind["item"], len(self.names["item"])),
        }
        layout = [sizes[group] for group in GROUPS if group in self.config.groups and any(sizes[group])]
        if not layout:
            raise ValueError("the only group of the context is 'attributional', but there are no features; add groups or features")
        return layout

    def _columns(self, part: str) -> Tensor:
        """Places of a part in the context."""
        columns: Tensor = getattr(self, f"{part}_columns")
        return columns

    def _shared(self) -> tuple[nn.Module, ...]:
        """What domains share: M1, with the projections in front of it, and M3."""
        return self.projections, self.context, self.reshape

    def _degree(self, kind: NodeType, degree: Tensor) -> Tensor:
        """One column ``[..., 1]``."""
        column: Tensor = self.degrees[kind](degree.unsqueeze(-1).log1p())
        return column

    def _attributes(self, graph: MultimodalGraph, kind: NodeType) -> tuple[Tensor, Tensor]:
        """Features ``[N, D]``, zeros where they are missing, and by modality whether they are there ``[N, M]``."""
        values, has = [graph.degree(kind).new_empty(graph.num_nodes(kind), 0)], []
        for name, standardize, project in zip(self.widths, self.features, self.projections, strict=True):
            if name in self.names[kind]:
                table = graph.features[name]
                values.append(hide_missing(project(standardize(table.pooled)), table.present))
                has.append(table.present)
        return torch.cat(values, 1), torch.stack(has, 1).float() if has else values[0]

    def _items(self, graph: MultimodalGraph) -> Side:
        """All items."""
        values, has = self._attributes(graph, "item")
        groups = {"historical": [self._degree("item", graph.degree("item"))], "attributional": [values, has]}
        vector, bias = graph.gather("item", self.items), graph.gather("item", self.item_bias)
        return Side(vector, bias, self._beside(groups, values), values, has)

    def _users(self, graph: MultimodalGraph, items: Side | None = None, events: tuple[Tensor, Tensor] | None = None) -> Side:
        """All users; or those of training events (users ``[B]``, items ``[B]``), whose past is what they did beside the event."""
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
        seen = (counts > 0.5).float()
        widths = torch.tensor([self.widths[name] for name in self.names["item"]], dtype=torch.long, device=sums.device)
        share = (seen / counts.clamp(min=1)).repeat_interleave(widths, 1, output_size=sums.shape[1])
        profile = sums * share
        groups = {"historical": [self._degree("user", degree), profile, seen], "attributional": [values, has]}
        return Side(vector, bias, self._beside(groups, profile), profile, seen)

    def _beside(self, groups: Mapping[str, list[Tensor]], like: Tensor) -> Tensor:
        """The columns of the groups that are used, side by side."""
        used = [columns for group, of_group in groups.items() if group in self.config.groups for columns in of_group]
        return torch.cat([like[:, :0], *used], 1)

    def _in_event(self, user: Side, query: ContextQuery) -> Side:
        """Users with the context of their events, which is the mean of training where there is none."""
        if "interactional" not in self.config.groups:
            return user
        event = self.event_mean.expand(len(query), -1) if query.context is None else query.context
        if event.shape[1] != len(self.event_mean):
            raise ValueError(
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
        """How far the item is from what the user had ``[B, C, M]``, by modality: logarithms, 0 where that is not known."""
        if "attributional" not in self.config.groups or not self.names["item"]:
            return user.context[..., :0]
        columns, start = [], 0
        for width in (self.widths[name] for name in self.names["item"]):
            one, other = user.profile[..., start : start + width], item.profile[..., start : start + width]
            shared = other.dim() == 2
            far = torch.cdist(one[:, 0] if shared else one, other, compute_mode="donot_use_mm_for_euclid_dist")  # exact when near
            columns.append((far if shared else far[:, 0]) / width**0.5)
            start += width
        return (torch.stack(columns, -1) + CLOSE).log() * user.has * item.has

    @torch.no_grad()
    def _remember(self, query: ContextQuery) -> None:
        """Takes the contexts of a training batch into their mean."""
        if self.training and query.context is not None and "interactional" in self.config.groups:
            self.events += len(query)
            self.event_mean.lerp_(query.context.mean(0), (len(query) / self.events).to(self.event_mean))

    def _distance(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """How far the outputs of M1 and M3 are from how they were distributed in the source."""
        far = []
        for name, output in outputs.items():
            moments = self.moments[name]
            assert isinstance(moments, RunningMoments)
            if moments.is_empty:
                raise ValueError("transfer 'drr' needs a source, but the model has none; name a finished run with init_from")
            far.append(moments.distance(output))
        return torch.stack(far).sum()
