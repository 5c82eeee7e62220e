"""Two-stage ranking: a fast model retrieves candidates, a slow one reranks them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gmmrec.abilities import CombinesModels, FoldsInUsers, IgnoresFeatures, ReadsUserFeatures, ignores_features, reads_user_features
from gmmrec.config import check_positive
from gmmrec.data.ragged import RaggedSets
from gmmrec.ensemble.graphs import merge, view
from gmmrec.ensemble.member import CELLS, Member, member_scores
from gmmrec.ensemble.neighbours import NeighbourUsers
from gmmrec.evaluation.top import top_columns
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM_USER

FAST, SLOW = 0, 1
"""Positions of the two models."""


@dataclass(frozen=True)
class TwoStageConfig:
    """Members of a two-stage ranking."""

    fast: Member
    """Model that scores the whole catalogue."""
    slow: Member
    """Model that scores the candidates."""
    top: int = 200
    """Candidates per user: the top items of the fast model that are not in the user's training part."""

    def __post_init__(self) -> None:
        for name in ("fast", "slow"):
            member = getattr(self, name)
            object.__setattr__(self, name, member if isinstance(member, Member) else Member(**member))
        check_positive(top=self.top)

    @property
    def members(self) -> tuple[Member, Member]:
        """Both models, the fast one first."""
        return self.fast, self.slow

    @classmethod
    def stored(cls, values: Mapping[str, Any], member: Callable[[Mapping[str, Any]], Member]) -> "TwoStageConfig":
        """Return settings from plain values; ``member`` completes each member with its class."""
        return cls(member(values["fast"]), member(values["slow"]), values["top"])


@dataclass(frozen=True)
class TwoStageEncoded(Encoded):
    """Item vectors of the slow model for comparison, and the inputs of ranking."""

    fast: Encoded
    slow: Encoded
    seen: RaggedSets
    """Training items of every user."""
    neighbours: NeighbourUsers | None = None
    """Neighbours of new users, for models that do not fold them in; None without new users."""


class TwoStage(
    Recommender[UserQuery, TwoStageConfig, TwoStageEncoded], FoldsInUsers, IgnoresFeatures, ReadsUserFeatures, CombinesModels
):
    """Recommender that ranks the top items of a fast model by a slow model, followed by all others in the order of the fast model.

    Candidates keep the score of the slow model. All other items get scores below the lowest of these, in the order of the fast
    model (differences below 2^-22 of the range of a user's scores are lost). The candidates depend on the whole catalogue and the
    training part alone, neither on the items to score nor on the mask. Training items of the user are no candidates, so that
    ``top`` items are left after masking. An item that the fast model scores with minus infinity keeps that score, and so does a
    candidate of the slow model.

    New users are scored as by a :class:`~gmmrec.ensemble.blend.Blend`, and the graph is merged like its graph. Nothing is trained.
    """

    def __init__(self, schema: GraphSchema, config: TwoStageConfig) -> None:
        super().__init__(schema, config)
        self.members = nn.ModuleList((config.fast.build(), config.slow.build()))
        self.requires_grad_(False)

    @classmethod
    def of(cls, fast: AnyRecommender, slow: AnyRecommender, schema: GraphSchema, top: int = 200) -> "TwoStage":
        """Return copies of two trained models, for a graph that :func:`~gmmrec.ensemble.graphs.merge` made of theirs, in order."""
        made = cls(schema, TwoStageConfig(Member.of(fast), Member.of(slow), top))
        for member, model in zip(made.members, (fast, slow), strict=True):
            member.load_state_dict(model.state_dict())
        return made.eval()

    @property
    def ignores_features(self) -> bool:
        """True if both models ignore features."""
        return all(ignores_features(self._member(position)) for position in (FAST, SLOW))

    @property
    def reads_user_features(self) -> bool:
        """True if a model reads the features of users."""
        return any(reads_user_features(self._member(position)) for position in (FAST, SLOW))

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Return the merged graphs that both models prepare."""
        return merge([self._member(position).prepare(graph) for position in (FAST, SLOW)])

    def encode(self, graph: MultimodalGraph) -> TwoStageEncoded:
        """Return the encodings of both models, and the training items of every user."""
        members = enumerate((self.config.fast, self.config.slow))
        fast, slow = (self._member(position).encode(view(graph, position, member.graph_schema)) for position, member in members)
        item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
        seen = RaggedSets.from_pairs(user, item, graph.num_nodes("user"))
        return TwoStageEncoded({"item": slow["item"]}, fast, slow, seen, NeighbourUsers.in_graph(graph))

    def score(self, encoded: TwoStageEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """Score the whole catalogue by the fast model and its top items by the slow one, a block of users at a time."""
        size = block_rows(CELLS, encoded["item"].shape[0])
        blocks = []
        for start in range(0, max(1, len(query)), size):
            scores = self._catalogue(encoded, query.take(slice(start, start + size)))  # [b, I]
            columns = candidates if candidates.dim() == 1 else candidates[start : start + size]
            blocks.append(scores[:, columns] if columns.dim() == 1 else scores.gather(1, columns))
        return torch.cat(blocks)

    def shortlist(self, encoded: TwoStageEncoded, query: UserQuery) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fast model's scores ``[B, I]``, the candidates ``[B, top]``, best first, and their mask ``[B, top]``."""
        items = torch.arange(encoded["item"].shape[0], device=query.user.device)
        scores = member_scores(self._member(FAST), encoded.fast, query, items, encoded.neighbours)
        seen = encoded.seen.take(query.user)
        unseen = scores.clone()
        unseen[seen.groups, seen.values] = -torch.inf
        best, rows = top_columns(unseen, self.config.top)
        return scores, rows, best > -torch.inf

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """Return no terms: both models are already trained."""
        return {}

    def _catalogue(self, encoded: TwoStageEncoded, query: UserQuery) -> Tensor:
        scores, rows, chosen = self.shortlist(encoded, query)
        slow = member_scores(self._member(SLOW), encoded.slow, query, rows, encoded.neighbours).to(scores.dtype)
        return stack_scores(scores, slow, rows, chosen)

    def _member(self, position: int) -> AnyRecommender:
        return cast(AnyRecommender, self.members[position])


def stack_scores(scores: Tensor, better: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Rank given items of every row above all others.

    Args:
        scores: Scores of all items ``[B, I]``.
        better: Scores of given items ``[B, K]``, which they keep.
        rows: Rows of the given items ``[B, K]``.
        chosen: Mask of the given items ``[B, K]``; those outside are treated like all other items.

    Returns:
        ``[B, I]``: the others, shifted below the lowest of ``better``, keep their order. Minus infinity is kept.

    >>> stack_scores(torch.tensor([[9.0, 7.0, 8.0, 5.0]]), torch.tensor([[0.5, 1.0]]), torch.tensor([[0, 2]]), torch.ones(1, 2) > 0)
    tensor([[ 0.5000, -0.5000,  1.0000, -2.5000]])
    """
    lowest = better.masked_fill(~chosen | (better == -torch.inf), torch.inf).amin(1, keepdim=True)
    lowest = torch.where(lowest == torch.inf, 0.0, lowest)
    others = scores.scatter(1, rows, torch.where(chosen, -torch.inf, scores.gather(1, rows)))
    out = others == -torch.inf
    highest = others.amax(1, keepdim=True)
    spread = highest - others.masked_fill(out, torch.inf).amin(1, keepdim=True)
    step = 2 * lowest.abs().clamp(min=1)
    below = lowest - step * (0.5 + (highest - others) / torch.where(spread > 0, spread, 1.0))
    below = torch.where(out, -torch.inf, below)
    return below.scatter(1, rows, torch.where(chosen, better, below.gather(1, rows)))
