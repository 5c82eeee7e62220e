"""Two-stage ranking: a fast model finds candidates, a slow one puts them in order."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gmmrec.abilities import FoldsInUsers
from gmmrec.config import check_positive
from gmmrec.data.ragged import RaggedSets
from gmmrec.ensemble.blend import CELLS, TrainedPart, ask, merge, view
from gmmrec.evaluation.ranking import top_columns
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, Recommender
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import ITEM_USER

FAST, SLOW = 0, 1
"""Places of the two models."""


@dataclass(frozen=True)
class TwoStageConfig:
    """What ranks."""

    fast: TrainedPart
    """The model that scores the whole catalogue."""
    slow: TrainedPart
    """The model that scores the candidates."""
    top: int = 200
    """Candidates a user: the best of the fast model that the user does not have in the training part."""

    def __post_init__(self) -> None:
        for name in ("fast", "slow"):
            part = getattr(self, name)
            object.__setattr__(self, name, part if isinstance(part, TrainedPart) else TrainedPart(**part))
        check_positive(top=self.top)


@dataclass(frozen=True)
class TwoStageEncoded(Encoded):
    """Vectors to compare items by, the slow model's, and all that ranking needs."""

    fast: Encoded
    slow: Encoded
    seen: RaggedSets
    """Training items of every user."""


class TwoStage(Recommender[UserQuery, TwoStageConfig, TwoStageEncoded], FoldsInUsers):
    """The fast model's best items come first, in the slow model's order; all others follow in the fast model's order.

    Candidates keep the score that the slow model gives them. All other items get what lies below the lowest of these, so that the
    order of the fast model is kept (differences below 2^-22 of the range of a user's scores are lost). Which items are candidates
    depends on the whole catalogue and on the training part alone: neither on the items that are asked for, nor on what is masked.
    Items that the user has in the training part are no candidates, so that ``top`` items are left once they are masked. An item
    that the fast model rules out with minus infinity stays ruled out, and so does a candidate that the slow one rules out.

    The graph is merged as that of a :class:`~gmmrec.ensemble.blend.Blend`. Nothing is trained.
    """

    def __init__(self, schema: GraphSchema, config: TwoStageConfig) -> None:
        super().__init__(schema, config)
        self.parts = nn.ModuleList((config.fast.build(), config.slow.build()))
        self.requires_grad_(False)

    @classmethod
    def of(cls, fast: AnyRecommender, slow: AnyRecommender, schema: GraphSchema, top: int = 200) -> "TwoStage":
        """Copies of two trained models, for a graph that :func:`~gmmrec.ensemble.blend.merge` made of theirs, in this order."""
        made = cls(schema, TwoStageConfig(TrainedPart.of(fast), TrainedPart.of(slow), top))
        for own, model in zip(made.parts, (fast, slow), strict=True):
            own.load_state_dict(model.state_dict())
        return made.eval()

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Both models' own prepared graphs, merged."""
        return merge([self._part(place).prepare(graph) for place in (FAST, SLOW)])

    def encode(self, graph: MultimodalGraph) -> TwoStageEncoded:
        """The vectors of both models, and the training items of every user."""
        parts = enumerate((self.config.fast, self.config.slow))
        fast, slow = (self._part(place).encode(view(graph, place, part.graph_schema)) for place, part in parts)
        item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
        return TwoStageEncoded({"item": slow["item"]}, fast, slow, RaggedSets.from_pairs(user, item, graph.num_nodes("user")))

    def score(self, encoded: TwoStageEncoded, query: UserQuery, candidates: Tensor) -> Tensor:
        """The whole catalogue is scored by the fast model and its best by the slow one, a block of users at a time."""
        size = max(1, CELLS // max(1, encoded["item"].shape[0]))
        blocks = []
        for start in range(0, max(1, len(query)), size):
            scores = self._catalogue(encoded, query.take(slice(start, start + size)))  # [b, I]
            own = candidates if candidates.dim() == 1 else candidates[start : start + size]
            blocks.append(scores[:, own] if own.dim() == 1 else scores.gather(1, own))
        return torch.cat(blocks)

    def shortlist(self, encoded: TwoStageEncoded, query: UserQuery) -> tuple[Tensor, Tensor, Tensor]:
        """The fast model's scores ``[B, I]``, the candidates, best first, ``[B, top]``, and which of these are any ``[B, top]``."""
        items = torch.arange(encoded["item"].shape[0], device=query.user.device)
        scores = ask(self._part(FAST), encoded.fast, query, items)
        seen = encoded.seen.take(query.user)
        unseen = scores.clone()
        unseen[seen.groups, seen.values] = -torch.inf
        best, rows = top_columns(unseen, self.config.top)
        return scores, rows, best > -torch.inf

    def loss(self, graph: MultimodalGraph, batch: Batch[UserQuery]) -> dict[str, Tensor]:
        """No terms: both models are trained already."""
        return {}

    def _catalogue(self, encoded: TwoStageEncoded, query: UserQuery) -> Tensor:
        scores, rows, chosen = self.shortlist(encoded, query)
        slow = ask(self._part(SLOW), encoded.slow, query, rows).to(scores.dtype)
        return stack_scores(scores, slow, rows, chosen)

    def _part(self, place: int) -> AnyRecommender:
        return cast(AnyRecommender, self.parts[place])


def stack_scores(scores: Tensor, better: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Puts some items of every row above all others.

    Args:
        scores: Of all items ``[B, I]``.
        better: Of some of them ``[B, K]``, which they keep.
        rows: Which items these are ``[B, K]``.
        chosen: Which of them count ``[B, K]``; the others are treated as if they were not among them.

    Returns:
        ``[B, I]``: the others, brought below the lowest of ``better``, keep their order. Minus infinity stays what it is.

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
