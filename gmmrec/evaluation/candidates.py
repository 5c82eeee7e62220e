"""Evaluation on given candidates: scores of the candidates of every query, and metrics of their order."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gmmrec.data.ragged import RaggedLists, RaggedSets
from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.report import table_report
from gmmrec.evaluation.results import EvaluationKind, Results, fingerprint
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.evaluation.ties import mean_over_ranks
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.recommender import Recommender
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation

CELLS = 2**22
"""Maximum number of candidates scored at once."""


def evaluate_candidates(
    model: Recommender[Any],
    graph: MultimodalGraph,
    task: CandidateEvaluation[Any],
    *,
    chunk_size: int = EvalConfig.chunk_size,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Rank the candidates of every query and measure the ranks of the relevant ones.

    Args:
        model: A trained model, on the device of ``graph``.
        graph: Graph returned by ``model.prepare``.
        task: Queries with their candidates.
        chunk_size: Maximum number of queries scored at once.
        bootstrap: Resamples behind the intervals.

    Returns:
        One value per query under the names of :func:`candidate_metrics`.

    Raises:
        UsageError: The model scores NaN.
    """
    task = task.to(graph.degree(task.query.target).device)
    with evaluating(model):
        encoded = model.encode(graph)
        parts = []
        for index in _chunks(task.candidates, chunk_size):
            part = task.take(index)
            candidates, present = part.candidates.last(int(part.candidates.counts.max()))
            relevant = part.candidates.indptr.new_zeros(present.shape).bool()
            relevant[present] = part.label
            scores = tiled_scores(model, encoded, part.query, candidates).float()
            if bool(scores[present].isnan().any()):
                raise UsageError(f"{type(model).__name__} returned NaN scores; its training has diverged")
            parts.append(candidate_metrics(scores.masked_fill(~present, -torch.inf), relevant, present))
    values = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    groups = task.candidates.groups
    answers = RaggedSets.from_pairs(groups[task.label], task.candidates.values[task.label], len(task))
    return Results(CANDIDATES, values, torch.arange(len(task)), fingerprint(answers).cpu(), "none", bootstrap=bootstrap)


def candidate_metrics(scores: Tensor, relevant: Tensor, present: Tensor) -> dict[str, Tensor]:
    r"""Return metrics of the relevant candidates among all of each query, as defined by the MIND competition.

    ``auc``: the share of correctly ordered (relevant, other) pairs, ties counted half. ``mrr``: the mean reciprocal rank of
    all relevant candidates. ``ndcg@k``: gains of relevant candidates discounted by :math:`\log_2(1 + \mathrm{rank})`, over the best
    possible. ``accuracy``: whether the first is relevant. All are expectations over a random order of tied candidates.

    Args:
        scores: ``[B, C]``, minus infinity where there is no candidate.
        relevant: ``[B, C]`` (bool).
        present: Mask of the candidates ``[B, C]``.

    Returns:
        One value per query ``[B]`` under each name.

    >>> found = candidate_metrics(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[False, True, False]]), torch.ones(1, 3) > 0)
    >>> found["auc"].item(), found["mrr"].item(), found["accuracy"].item()
    (0.5, 0.5, 0.0)
    """
    scores = torch.where(present, scores.clamp(min=torch.finfo(scores.dtype).min), -torch.inf)
    num_relevant, num_others = relevant.sum(1), (present & ~relevant).sum(1)
    above, tied = _ties(scores, present)
    relevant_above, relevant_tied = _ties(scores, relevant)
    lower = num_others[:, None] - (above - relevant_above) - 0.5 * (tied - relevant_tied)  # others, per candidate
    found = {"auc": (lower * relevant).sum(1) / (num_relevant * num_others)}
    rank = torch.arange(1, scores.shape[1] + 1, device=scores.device)

    def total(values: Tensor) -> Tensor:
        """Sum the values of the ranks of all relevant candidates ``[B]``."""
        return (mean_over_ranks(values, above, tied.clamp(min=1)).float() * relevant).sum(1)

    found["mrr"] = total(1 / rank) / num_relevant
    gain = 1 / torch.log2(1.0 + rank)
    for k in (5, 10):
        best = 1 / torch.log2(torch.arange(2, k + 2, device=scores.device))
        ideal = torch.cat([best.new_zeros(1), best.cumsum(0)])[num_relevant.clamp(max=k)]
        found[f"ndcg@{k}"] = total(gain[:k]) / ideal
    found["accuracy"] = total(torch.ones(1, device=scores.device))
    return found


def _ties(scores: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Count the candidates ``among`` ``[B, C]`` that score more than each candidate, and those that score as much."""
    ordered = (-scores).masked_fill(~among, torch.inf).sort(dim=1).values
    count = among.sum(1, keepdim=True)
    above, not_below = (torch.searchsorted(ordered, -scores, right=right).clamp(max=count) for right in (False, True))
    return above, not_below - above


def _chunks(candidates: RaggedLists, chunk_size: int) -> list[Tensor]:
    """Return chunks of query positions, as large as ``chunk_size`` and ``CELLS`` allow."""
    size = min(chunk_size, block_rows(CELLS, int(candidates.counts.max())))
    return list(torch.arange(len(candidates), device=candidates.indptr.device).split(size))


def _evaluate(
    model: Recommender[Any],
    graph: MultimodalGraph,
    task: CandidateEvaluation[Any],
    config: EvalConfig,
    groups: Mapping[str, Group],
) -> Results:
    return evaluate_candidates(model, graph, task, chunk_size=config.chunk_size, bootstrap=config.bootstrap)


CANDIDATES = EvaluationKind(
    name="candidates",
    task=CandidateEvaluation,
    unit="queries",
    paired_by="query",
    headline="queries with given candidates",
    evaluate=_evaluate,
    report=table_report,
)
