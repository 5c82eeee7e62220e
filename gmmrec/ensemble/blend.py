"""Blend: a weighted sum of the scores of trained models (late fusion)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gmmrec.abilities import CombinesModels, FoldsInUsers, IgnoresFeatures, ReadsUserFeatures, ignores_features, reads_user_features
from gmmrec.config import check_literals, check_non_negative
from gmmrec.ensemble.graphs import merge, view
from gmmrec.ensemble.member import CELLS, Member, member_scores
from gmmrec.ensemble.neighbours import NeighbourUsers
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.normalize import unit_rows
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery

RANK_OFFSET = 60
"""Constant of reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009)."""

Scale = Literal["standard", "ranks"]


@dataclass(frozen=True)
class BlendConfig:
    """Members and weights of a blend."""

    members: tuple[Member, ...]
    """Trained models."""
    weights: tuple[float, ...]
    """Weight of every member; a member with weight 0 is skipped."""
    scale: Scale = "standard"
    """Normalization of scores per user: by mean and standard deviation, or by rank."""

    def __post_init__(self) -> None:
        members = tuple(member if isinstance(member, Member) else Member(**member) for member in self.members)
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if not members or len(members) != len(self.weights):
            raise UsageError(f"a blend needs one weight per model, but has {len(members)} models and {len(self.weights)} weights")
        check_non_negative(**{f"weights[{position}]": weight for position, weight in enumerate(self.weights)})
        if not sum(self.weights) > 0:
            raise UsageError(f"at least one weight must be greater than 0, but weights are {list(self.weights)}")
        check_literals(self)

    @classmethod
    def stored(cls, values: Mapping[str, Any], member: Callable[[Mapping[str, Any]], Member]) -> "BlendConfig":
        """Return settings from plain values; ``member`` completes each member with its class."""
        return cls(**{**values, "members": tuple(member(each) for each in values["members"])})


@dataclass(frozen=True)
class BlendEncoded(Encoded):
    """Item vectors for comparison, and the encoding of every member."""

    members: Mapping[int, Encoded]
    """Encodings by position of the member; those with weight 0 are missing."""
    neighbours: NeighbourUsers | None = None
    """Neighbours of new users, for members that do not fold them in; None without new users."""


class Blend(Recommender[UserQuery, BlendConfig, BlendEncoded], FoldsInUsers, IgnoresFeatures, ReadsUserFeatures, CombinesModels):
    r"""Weighted sum of the scores of trained models, normalized per user.

    .. math::
        s_{ui} = \sum_p w_p \frac{s^p_{ui} - \mu^p_u}{\sigma^p_u}
        \qquad \text{or, by ranks,} \qquad s_{ui} = \sum_p \frac{w_p}{60 + r^p_{ui}}

    Mean and (population) standard deviation, and ranks, are those of a user's scores over the WHOLE catalogue, seen items included:
    a score depends neither on the candidates nor on the mask. The mean does not affect the ranking; the deviation scales the
    influence of a member on a user's list, and a member that scores all items alike for a user has none there. Items with equal
    scores share a rank, counted from 1. An item that a member scores with minus infinity keeps that score.

    The graph of a blend combines those of its members. Relations that differ between them are prefixed with the position of their
    member (``"0/frozen_knn"``), and every member sees its own. Nothing is trained.

    ``encode`` returns the encodings of the members and, as ``"item"``, the concatenated unit item vectors of all members, each
    scaled by the root of its weight, so that their cosine is the weighted mean of the members' cosines.

    A member that does not fold in new users scores them as their neighbours; see
    :class:`~gmmrec.ensemble.neighbours.NeighbourUsers`.
    """

    def __init__(self, schema: GraphSchema, config: BlendConfig) -> None:
        super().__init__(schema, config)
        self.members = nn.ModuleList(member.build() for member in config.members)
        self.requires_grad_(False)

    @classmethod
    def of(
        cls, models: Sequence[AnyRecommender], schema: GraphSchema, weights: Sequence[float], scale: Scale = "standard"
    ) -> "Blend":
        """Return a blend of copies of trained models, for a graph that :func:`merge` made of theirs."""
        blend = cls(schema, BlendConfig(tuple(Member.of(model) for model in models), tuple(weights), scale))
        for member, model in zip(blend.members, models, strict=True):
            member.load_state_dict(model.state_dict())
        return blend.eval()

    @property
    def ignores_features(self) -> bool:
        """True if all members with a positive weight ignore features."""
        return all(ignores_features(self._member(position)) for position, _ in self._weights())

    @property
    def reads_user_features(self) -> bool:
        """True if a member with a positive weight reads the features of users."""
        return any(reads_user_features(self._member(position)) for position, _ in self._weights())

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Return the merged graphs that the members prepare."""
        return merge([self._member(position).prepare(graph) for position in range(len(self.members))])

    def encode(self, graph: MultimodalGraph) -> BlendEncoded:
        """Return the encodings of all members with a positive weight, and item vectors for comparison."""
        members, vectors = dict[int, Encoded](), []
        for position, weight in self._weights():
            members[position] = self._member(position).encode(view(graph, position, self.config.members[position].graph_schema))
            vectors.append(unit_rows(members[position]["item"]) * weight**0.5)
        return BlendEncoded({"item": torch.cat(vectors, dim=1)}, members, NeighbourUsers.in_graph(graph))

    def score(self, encoded: BlendEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Return the weighted sum of normalized scores, computed over the whole catalogue for a block of users at a time."""
        size = block_rows(CELLS, encoded["item"].shape[0])
        blocks = []
        for start in range(0, max(1, len(query)), size):
            part = query.take(slice(start, start + size))
            weighted = ((weight, self.comparable_scores(encoded, part, position)) for position, weight in self._weights())
            mixture = mix(weighted)  # [b, I]
            columns = candidates if candidates.dim() == 1 else candidates[start : start + size]
            blocks.append(mixture[:, columns] if columns.dim() == 1 else mixture.gather(1, columns))
        return torch.cat(blocks)

    def comparable_scores(self, encoded: BlendEncoded, query: UserQuery, position: int) -> Tensor:
        """Return the normalized scores ``[B, I]`` of the member at a position."""
        items = torch.arange(encoded["item"].shape[0], device=query.user.device)
        scores = member_scores(self._member(position), encoded.members[position], query, items, encoded.neighbours)
        return standardize(scores) if self.config.scale == "standard" else reciprocal_ranks(scores)

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: the members are already trained."""
        return {}

    def _member(self, position: int) -> AnyRecommender:
        return cast(AnyRecommender, self.members[position])

    def _weights(self) -> list[tuple[int, float]]:
        return [(position, weight) for position, weight in enumerate(self.config.weights) if weight > 0]


def mix(parts: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Return the weighted sum of scores ``[B, I]``, from pairs of a weight and scores.

    >>> mix([(0.5, torch.tensor([[1.0, 2.0]])), (2.0, torch.tensor([[3.0, 0.0]]))])
    tensor([[6.5000, 1.0000]])
    """
    mixture: Tensor | None = None
    for weight, scores in parts:
        mixture = scores * weight if mixture is None else mixture.add_(scores, alpha=weight)
    assert mixture is not None
    return mixture


def standardize(scores: Tensor) -> Tensor:
    """Scale every row ``[B, I]`` to mean 0 and population standard deviation 1; rows of equal scores become zeros.

    Entries of minus infinity are kept and ignored.

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
    alike = deviation <= 1e-6 * scores.abs().amax(1, keepdim=True)  # equal up to rounding
    standardized = (scores - mean) / deviation.masked_fill(alike, torch.inf)
    return standardized.masked_fill_(out, -torch.inf)


def reciprocal_ranks(scores: Tensor) -> Tensor:
    """Return ``1 / (60 + rank)`` of every entry in its row ``[B, I]``; ranks start at 1, equal scores share the best rank.

    Entries of minus infinity and NaN are kept.

    >>> (1 / reciprocal_ranks(torch.tensor([[0.1, 0.5, 0.5, 0.3]]))).round()
    tensor([[64., 61., 61., 63.]])
    """
    ascending = (-scores).sort(dim=1).values
    better = torch.searchsorted(ascending, -scores)
    ranks = 1 / (RANK_OFFSET + 1 + better.to(scores.dtype))
    return torch.where(scores.isnan() | (scores == -torch.inf), scores, ranks)
