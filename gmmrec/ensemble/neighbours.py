"""Fold-in by neighbours: new users scored as the trained users with the most similar histories."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.abilities import FoldsInUsers, NonPersonalized, ReadsHistories, offered
from gmmrec.data.ragged import RaggedSets
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.top import top_columns
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import AnyRecommender, Encoded
from gmmrec.typing import ITEM, ITEM_USER, USER

COUNT = 20
"""Neighbours of a new user; 10 to 50 make little difference."""
CELLS = 2**24
"""Similarities, or scores of neighbours, held at once: 64 MB."""


def folds_in_users(model: AnyRecommender) -> bool:
    """Return whether a model scores new users by itself: from their edges, their histories, or alike for all users."""
    folding = offered(model, FoldsInUsers)
    reads = offered(model, ReadsHistories) is not None or model.query_type.holds_history
    return reads or offered(model, NonPersonalized) is not None or (folding is not None and folding.folds_in_users)


@dataclass(frozen=True)
class NeighbourUsers:
    r"""The trained users nearest to each new user, by the cosine of their sets of items, and their shares in a score.

    A new user :math:`n` with the items :math:`H_n` is scored as their neighbours are, in proportion to the similarity:

    .. math::
        s_{ni} = \frac{\sum_{u \in N(n)} c_{nu}\, s_{ui}}{\sum_{u \in N(n)} c_{nu}}, \qquad
        c_{nu} = \frac{|H_n \cap H_u|}{\sqrt{|H_n|\, |H_u|}}

    Where scores are inner products with item vectors, that is the score of the mean vector of the neighbours.
    """

    first: int
    """Row of the first new user; new users follow the trained ones."""
    rows: Tensor
    """Rows of the neighbours ``[n, K]``, the nearest first."""
    shares: Tensor
    """Share of every neighbour ``[n, K]``; they sum to 1, or are all 0 where no trained user has an item of the history."""

    @classmethod
    def of(cls, graph: MultimodalGraph, histories: RaggedSets, first: int) -> "NeighbourUsers":
        """Find the neighbours of new users among the first ``first`` users of a graph.

        Args:
            graph: Graph with the interactions of the trained users.
            histories: Items of every new user, as rows of ``graph``.
            first: Number of trained users.
        """
        item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
        num_items, device = graph.num_nodes(ITEM), user.device
        item, user = item[user < first], user[user < first]
        trained = RaggedSets.from_pairs(user, item, first)
        length = trained.counts.clamp(min=1).float().rsqrt()
        histories, rows, shares = histories.to(device), [], []
        for part in torch.arange(len(histories), device=device).split(block_rows(CELLS, max(num_items, first))):
            mine = histories.take(part)
            dense = torch.zeros(num_items, len(part), device=device)
            dense[mine.values, mine.groups] = 1.0
            shared = F.embedding_bag(trained.values, dense, trained.indptr[:-1], mode="sum")  # [U, n]
            cosine = (shared * length[:, None]).t().contiguous()  # up to the constant factor of the history's own length
            near, nearest = top_columns(cosine, COUNT)
            rows.append(nearest)
            shares.append(near / near.sum(1, keepdim=True).clamp(min=torch.finfo(near.dtype).tiny))
        nothing = torch.empty(0, min(COUNT, first), device=device)
        return cls(first, torch.cat([nothing.long(), *rows]), torch.cat([nothing, *shares]))

    @classmethod
    def in_graph(cls, graph: MultimodalGraph) -> "NeighbourUsers | None":
        """Return the neighbours of the users that :func:`gmmrec.graph.fold_in.with_new_users` appended; None without any."""
        is_new = graph.rows(USER) < 0
        if not bool(is_new.any()):
            return None
        first = int((~is_new).sum())
        item, user = graph.edges(ITEM_USER).edge_index.as_tensor()
        late = user >= first
        return cls.of(graph, RaggedSets.from_pairs(user[late] - first, item[late], len(is_new) - first), first)


def score_with_neighbours(
    model: AnyRecommender, encoded: Encoded, query: Any, candidates: Tensor, neighbours: NeighbourUsers | None
) -> Tensor:
    """Return scores ``[B, C]`` of candidates ``[C]`` or ``[B, C]``, of new users by their neighbours.

    Args:
        model: Scores the trained users, and new ones if it folds them in.
        encoded: Encoding returned by ``model.encode``.
        query: Queries of the model's type, one per user.
        candidates: Rows of items.
        neighbours: Neighbours of the new users; None if there are none.
    """
    if neighbours is None or folds_in_users(model):
        return tiled_scores(model, encoded, query, candidates)
    is_new = query.users >= neighbours.first
    if not bool(is_new.any()):
        return tiled_scores(model, encoded, query, candidates)
    scores = torch.empty(len(query), candidates.shape[-1], device=candidates.device)
    old, new = torch.nonzero(~is_new).flatten(), torch.nonzero(is_new).flatten()
    if old.numel():
        scores[old] = tiled_scores(model, encoded, query.take(old), candidates if candidates.dim() == 1 else candidates[old]).to(
            scores
        )
    size = block_rows(CELLS, max(1, neighbours.rows.shape[1] * candidates.shape[-1]))
    for part in new.split(size):
        row = query.users[part] - neighbours.first
        near, shares = neighbours.rows[row], neighbours.shares[row]  # [b, K]
        some = candidates if candidates.dim() == 1 else candidates[part]
        scores[part] = _mean_score(model, encoded, near, shares, some).to(scores)
    return scores


def _mean_score(model: AnyRecommender, encoded: Encoded, near: Tensor, shares: Tensor, candidates: Tensor) -> Tensor:
    """Return the mean scores ``[b, C]`` of neighbours ``[b, K]``; minus infinity where one scores so."""
    if candidates.dim() == 1:  # each distinct neighbour is scored once
        users, column = near.unique(return_inverse=True)
        weights = shares.new_zeros(len(near), len(users)).scatter_add(1, column, shares)  # [b, V]
        found = tiled_scores(model, encoded, model.query_type.for_users(users), candidates).float()  # [V, C]
        refused = found == -torch.inf
        mean = weights @ found.masked_fill(refused, 0.0)
        return mean.masked_fill(weights @ refused.float() > 0, -torch.inf) if bool(refused.any()) else mean
    users, lists = near.flatten(), candidates.repeat_interleave(near.shape[1], 0)  # [b * K], [b * K, C]
    found = tiled_scores(model, encoded, model.query_type.for_users(users), lists).float().view(*near.shape, -1)  # [b, K, C]
    found = torch.where(shares.unsqueeze(-1) > 0, found, 0.0)
    return (found * shares.unsqueeze(-1)).sum(1)
