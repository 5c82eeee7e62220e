"""Blend: several trained models that rank together (late fusion)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_literals, check_non_negative
from gmmrec.data.features import FeatureTable
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.models import MODELS
from gmmrec.nn.normalize import unit_rows
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, ContextQuery, UserQuery
from gmmrec.typing import EdgeType

CELLS = 2**24
"""Scores of one part held at once: 64 MB."""
RANK_OFFSET = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009)."""

Scale = Literal["standard", "ranks"]


@dataclass(frozen=True)
class TrainedPart:
    """One trained model among those that rank together: all that its constructor needs.

    A model that ranks items in a situation is asked without one.
    """

    model: str
    """Name in the table of models."""
    config: Mapping[str, Any]
    """Its settings."""
    schema: Mapping[str, Any]
    """The fields of the schema it was built with."""

    @classmethod
    def of(cls, model: AnyRecommender) -> "TrainedPart":
        """What describes a model.

        Raises:
            ValueError: The model cannot be rebuilt from its name, or answers no users' queries.
        """
        if isinstance(model, Blend):
            raise ValueError("a blend cannot be part of a blend; name the runs that it was made of")
        name = MODELS.name_of(type(model))
        if name is None:
            raise ValueError(
                f"{type(model).__name__} is none of gmmrec's models, so that a saved run could not rebuild it as a part"
            )
        if model.query_type not in (UserQuery, ContextQuery):
            raise ValueError(f"a part must rank items for users, but {name} answers {model.query_type.__name__}")
        return cls(name, asdict(model.config), asdict(model.schema))

    def build(self) -> AnyRecommender:
        """The model with initial weights."""
        model_class = MODELS[self.model]
        return model_class(self.graph_schema, model_class.config_class(**self.config))

    @property
    def graph_schema(self) -> GraphSchema:
        """The schema it was built with."""
        relations = tuple((source, name, target) for source, name, target in self.schema["relations"])
        return GraphSchema(**{**self.schema, "relations": relations})


@dataclass(frozen=True)
class BlendConfig:
    """What a blend is made of."""

    parts: tuple[TrainedPart, ...]
    """The models."""
    weights: tuple[float, ...]
    """Share of every model; a model with share 0 is not asked."""
    scale: Scale = "standard"
    """How the scores of unlike models are made comparable, user by user: by mean and standard deviation, or by rank."""

    def __post_init__(self) -> None:
        parts = tuple(part if isinstance(part, TrainedPart) else TrainedPart(**part) for part in self.parts)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if not parts or len(parts) != len(self.weights):
            raise ValueError(f"a blend needs one weight a model, but has {len(parts)} models and {len(self.weights)} weights")
        check_non_negative(**{f"weights[{place}]": weight for place, weight in enumerate(self.weights)})
        if not sum(self.weights) > 0:
            raise ValueError(f"weights must hold a number greater than 0, but are {list(self.weights)}")
        check_literals(self)


@dataclass(frozen=True)
class BlendEncoded(Encoded):
    """Vectors to compare items by, and what every model encoded."""

    members: Mapping[int, Encoded]
    """By position among the models; those without a share are missing."""


class Blend(Recommender[UserQuery, BlendConfig, BlendEncoded], FoldsInUsers):
    r"""Adds up the scores of trained models after making them comparable, user by user.

    .. math::
        s_{ui} = \sum_p w_p \frac{s^p_{ui} - \mu^p_u}{\sigma^p_u}
        \qquad \text{or, by ranks,} \qquad s_{ui} = \sum_p \frac{w_p}{60 + r^p_{ui}}

    Mean and (population) standard deviation, and ranks, are those of a user's scores over the WHOLE catalogue, items that the user
    has seen included: so a score depends neither on the candidates that are asked for nor on what is masked. The mean moves no
    ranking; the deviation says how much of a user's list a model decides, and a model that scores all items alike for a user
    decides nothing there. Items with the same score have the same rank, counted from 1. An item that a part rules out with minus
    infinity stays ruled out.

    The graph of a blend holds all that the parts' graphs hold. Relations that are not the same in all of them are named after
    their part (``"0/frozen_knn"``), and every part sees its own. Nothing is trained.

    ``encode`` yields what the parts encode, and ``"item"``: all parts' item vectors at unit length side by side, each times the
    root of its weight, so that their cosine is the weighted mean of the parts' cosines.
    """

    def __init__(self, schema: GraphSchema, config: BlendConfig) -> None:
        super().__init__(schema, config)
        self.parts = nn.ModuleList(part.build() for part in config.parts)
        self.requires_grad_(False)

    @classmethod
    def of(
        cls, models: Sequence[AnyRecommender], schema: GraphSchema, weights: Sequence[float], scale: Scale = "standard"
    ) -> "Blend":
        """A blend of copies of trained models, for a graph that :func:`merge` made of theirs."""
        blend = cls(schema, BlendConfig(tuple(TrainedPart.of(model) for model in models), tuple(weights), scale))
        for own, model in zip(blend.parts, models, strict=True):
            own.load_state_dict(model.state_dict())
        return blend.eval()

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """The parts' own prepared graphs, merged."""
        return merge([self._part(place).prepare(graph) for place in range(len(self.parts))])

    def encode(self, graph: MultimodalGraph) -> BlendEncoded:
        """The vectors of every part that has a share, and vectors of items to compare items by."""
        members, vectors = dict[int, Encoded](), []
        for place, weight in self._shares():
            members[place] = self._part(place).encode(view(graph, place, self.config.parts[place].graph_schema))
            vectors.append(unit_rows(members[place]["item"]) * weight**0.5)
        return BlendEncoded({"item": torch.cat(vectors, dim=1)}, members)

    def score(self, encoded: BlendEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The weighted sum of comparable scores. The whole catalogue is scored, a block of users at a time."""
        size = max(1, CELLS // max(1, encoded["item"].shape[0]))
        blocks = []
        for start in range(0, max(1, len(query)), size):
            asked = query.take(slice(start, start + size))
            mixture = mix(((weight, self.part_scores(encoded, asked, place)) for place, weight in self._shares()))  # [b, I]
            own = candidates if candidates.dim() == 1 else candidates[start : start + size]
            blocks.append(mixture[:, own] if own.dim() == 1 else mixture.gather(1, own))
        return torch.cat(blocks)

    def part_scores(self, encoded: BlendEncoded, query: UserQuery, place: int) -> Tensor:
        """Comparable scores ``[B, I]`` of one part, by its place among the parts."""
        items = torch.arange(encoded["item"].shape[0], device=query.user.device)
        scores = ask(self._part(place), encoded.members[place], query, items)
        return standardize(scores) if self.config.scale == "standard" else reciprocal_ranks(scores)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """No terms: the parts are trained already."""
        return {}

    def _part(self, place: int) -> AnyRecommender:
        return cast(AnyRecommender, self.parts[place])

    def _shares(self) -> list[tuple[int, float]]:
        return [(place, weight) for place, weight in enumerate(self.config.weights) if weight > 0]


def ask(part: AnyRecommender, encoded: Encoded, query: UserQuery, candidates: Tensor) -> Tensor:
    """Scores of one part, from what it encoded; nothing is said of a situation where it would take one."""
    query_type: Any = part.query_type
    return part.score(encoded, query_type(user=query.user), candidates)


def mix(parts: Iterable[tuple[float, Tensor]]) -> Tensor:
    """The sum of weighted scores ``[B, I]``, from pairs of a weight and scores.

    >>> mix([(0.5, torch.tensor([[1.0, 2.0]])), (2.0, torch.tensor([[3.0, 0.0]]))])
    tensor([[6.5000, 1.0000]])
    """
    mixture: Tensor | None = None
    for weight, scores in parts:
        mixture = scores * weight if mixture is None else mixture.add_(scores, alpha=weight)
    assert mixture is not None
    return mixture


def standardize(scores: Tensor) -> Tensor:
    """Every row ``[B, I]`` with mean 0 and population standard deviation 1; zeros where all scores of a row are alike.

    Entries of minus infinity stay what they are and take no part.

    >>> standardize(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    out = scores == -torch.inf
    if bool(out.any()):
        count = (~out).sum(1, keepdim=True).clamp(min=1)
        mean = scores.masked_fill(out, 0.0).sum(1, keepdim=True) / count
        scores = torch.where(out, mean, scores)  # adds nothing to the deviation
        deviation = ((scores - mean).square().sum(1, keepdim=True) / count).sqrt()
    else:
        deviation, mean = torch.std_mean(scores, dim=1, correction=0, keepdim=True)
    alike = deviation <= 1e-6 * scores.abs().amax(1, keepdim=True)  # what rounding makes of equal scores is no opinion
    standardized = (scores - mean) / deviation.masked_fill(alike, torch.inf)
    return standardized.masked_fill_(out, -torch.inf)


def reciprocal_ranks(scores: Tensor) -> Tensor:
    """``1 / (60 + rank)`` of every entry in its row ``[B, I]``; equal scores share the best of their ranks, which begin with 1.

    Entries of minus infinity stay what they are, and NaN stays NaN.

    >>> (1 / reciprocal_ranks(torch.tensor([[0.1, 0.5, 0.5, 0.3]]))).round()
    tensor([[64., 61., 61., 63.]])
    """
    ascending = (-scores).sort(dim=1).values
    better = torch.searchsorted(ascending, -scores)
    ranks = 1 / (RANK_OFFSET + 1 + better.to(scores.dtype))
    return torch.where(scores.isnan() | (scores == -torch.inf), scores, ranks)


def merge(graphs: Sequence[MultimodalGraph]) -> MultimodalGraph:
    """One graph of the same nodes that holds the features and relations of all; see :class:`Blend` for the names.

    Raises:
        ValueError: The graphs have other nodes, or features of one name that are not the same.
    """
    first = graphs[0]
    data, features = HeteroData(), dict[str, FeatureTable]()
    for node_type in first.data.node_types:
        for name, value in first.data[node_type].items():
            data[node_type][name] = value
    for place, graph in enumerate(graphs):
        if graph.schema.num_nodes != first.schema.num_nodes:
            raise ValueError(f"graph {place} has other numbers of nodes than graph 0; use runs of the same data set")
        for name, table in graph.features.items():
            known = features.setdefault(name, table)
            if not _same_features(known, table):
                raise ValueError(
                    f"features {name!r} of graph {place} are not those of the graphs before; use runs of the same data set"
                )
            data[table.node_type][name], data[table.node_type][f"{name}_mask"] = table.values, table.mask
    shared = [kind for kind in first.data.edge_types if all(_same_edges(first, graph, kind) for graph in graphs[1:])]
    for place, graph in enumerate(graphs):
        for kind in graph.data.edge_types:
            source, name, target = kind
            own: EdgeType = kind if kind in shared else (source, f"{place}/{name}", target)
            for key, value in graph.data[kind].items():
                if key in ("rating", "text") and not torch.equal(data[own].get(key, value), value):
                    raise ValueError(f"graph {place} has another {key} of some interactions; use runs of the same data settings")
                data[own][key] = value
    schema = GraphSchema(
        num_nodes=first.schema.num_nodes,
        feature_dims={name: table.dim for name, table in features.items()},
        feature_nodes={name: table.node_type for name, table in features.items()},
        relations=tuple(data.edge_types),
        num_words=max(graph.schema.num_words for graph in graphs),
    )
    return MultimodalGraph(data, schema)


def view(graph: MultimodalGraph, place: int, schema: GraphSchema) -> MultimodalGraph:
    """What one part sees of a merged graph: the relations that all share and its own, under the names it knows; copies nothing.

    Args:
        graph: What :func:`merge` made, or that with new users.
        place: Of the part among the parts.
        schema: With the features of the part.
    """
    data = HeteroData()
    for node_type in graph.data.node_types:
        for key, value in graph.data[node_type].items():
            data[node_type][key] = value
    for kind in graph.data.edge_types:
        source, name, target = kind
        owner, slash, own = name.partition("/")
        if slash and owner.isdigit():
            if int(owner) != place:
                continue
            kind = (source, own, target)
        for key, value in graph.data[(source, name, target)].items():
            data[kind][key] = value
    return MultimodalGraph(data, replace(schema, relations=tuple(data.edge_types)))


def _same_features(table: FeatureTable, other: FeatureTable) -> bool:
    same_nodes = table.node_type == other.node_type
    return same_nodes and torch.equal(table.values, other.values) and torch.equal(table.mask, other.mask)


def _same_edges(graph: MultimodalGraph, other: MultimodalGraph, kind: EdgeType) -> bool:
    if kind not in other.data.edge_types:
        return False
    (edge_index, weight), (others_index, others_weight) = graph.edges(kind), other.edges(kind)
    same = torch.equal(edge_index.as_tensor(), others_index.as_tensor())
    if weight is None or others_weight is None:
        return same and weight is others_weight
    return same and torch.equal(weight, others_weight)
