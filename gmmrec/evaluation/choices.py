"""From a model and questions with candidates of their own to results: score the candidates, measure their order."""

from typing import Any

import torch
from torch import Tensor

from gmmrec.data.lists import Lists
from gmmrec.data.ragged import Ragged
from gmmrec.evaluation.evaluator import EvalConfig, evaluating
from gmmrec.evaluation.results import Results, fingerprint
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, encode
from gmmrec.tasks.questions import Choices

CELLS = 2**22
"""Candidates scored at once."""


def evaluate_choices(
    model: AnyRecommender,
    graph: MultimodalGraph,
    choices: Choices[Any],
    *,
    chunk_size: int = EvalConfig.chunk_size,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Puts the candidates of every question in order and measures how well the right ones stand.

    Args:
        model: A trained model, on the device of ``graph``.
        graph: What ``model.prepare`` returned.
        choices: What is asked.
        chunk_size: Questions scored at once, at most.
        bootstrap: Resamples behind the intervals.

    Returns:
        One value per question under the names that :func:`choice_metrics` gives.

    Raises:
        ValueError: The model scores NaN.
    """
    choices = choices.to(graph.degree(choices.query.target).device)
    with evaluating(model):
        encoded = encode(model, graph)
        parts = []
        for index in _chunks(choices.candidates, chunk_size):
            part = choices.take(index)
            candidates, present = part.candidates.last(int(part.candidates.counts.max()))
            right = part.candidates.indptr.new_zeros(present.shape).bool()
            right[present] = part.right
            scores = model.score(encoded, part.query, candidates).float()
            if bool(scores[present].isnan().any()):
                raise ValueError(f"{type(model).__name__} gives NaN scores; its training has diverged")
            parts.append(choice_metrics(scores.masked_fill(~present, -torch.inf), right, present))
    values = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    groups = choices.candidates.groups
    answers = Ragged.from_pairs(groups[choices.right], choices.candidates.values[choices.right], len(choices))
    return Results(values, torch.arange(len(choices)), fingerprint(answers).cpu(), "choices", bootstrap=bootstrap)


def choice_metrics(scores: Tensor, right: Tensor, present: Tensor) -> dict[str, Tensor]:
    r"""How well the right candidates stand among all of a question; the definitions of the MIND competition.

    ``auc``: the share of (right, wrong) pairs in order, ties counted half. ``mrr``: the mean of the reciprocal ranks of all right
    candidates. ``ndcg@k``: gains of right candidates discounted by :math:`\log_2(1 + \mathrm{rank})`, over the best that is
    possible. ``accuracy``: whether the first is right. Ranks among equal scores are the worst possible: a model that cannot tell
    candidates apart gains nothing by it.

    Args:
        scores: ``[B, C]``, minus infinity where there is no candidate.
        right: ``[B, C]`` (bool).
        present: Where there are candidates ``[B, C]``.

    Returns:
        A value per question ``[B]`` under each name.

    >>> found = choice_metrics(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[False, True, False]]), torch.ones(1, 3) > 0)
    >>> found["auc"].item(), found["mrr"].item(), found["accuracy"].item()
    (0.5, 0.5, 0.0)
    """
    scores = torch.where(present, scores.clamp(min=torch.finfo(scores.dtype).min), -torch.inf)
    wrong = present & ~right
    num_right, num_wrong = right.sum(1), wrong.sum(1)
    above = _greater(scores, wrong)  # wrong candidates with more, by candidate
    level = _greater(scores, wrong, or_equal=True) - above
    auc = ((num_wrong[:, None] - above - 0.5 * level) * right).sum(1) / (num_right * num_wrong)
    among = scores.masked_fill(~right, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1
    rank = above + level + among  # of a right candidate: behind the wrong ones that are not worse, and in order among the right
    gain = right / torch.log2(1.0 + rank)
    found = {"auc": auc, "mrr": (right / rank).sum(1) / num_right}
    for k in (5, 10):
        best = 1 / torch.log2(torch.arange(2, k + 2, device=scores.device))
        ideal = torch.cat([best.new_zeros(1), best.cumsum(0)])[num_right.clamp(max=k)]
        found[f"ndcg@{k}"] = (gain * (rank <= k)).sum(1) / ideal
    found["accuracy"] = (right & (rank == 1)).any(1).float()
    return found


def _greater(scores: Tensor, among: Tensor, *, or_equal: bool = False) -> Tensor:
    """How many of the candidates ``among`` ``[B, C]`` score more than each candidate (or as much)."""
    ordered = (-scores).masked_fill(~among, torch.inf).sort(dim=1).values
    return torch.searchsorted(ordered, -scores, right=or_equal).clamp(max=among.sum(1, keepdim=True))


def _chunks(candidates: Lists, chunk_size: int) -> list[Tensor]:
    """Positions of questions, as many at once as ``chunk_size`` and ``CELLS`` allow."""
    widest = max(1, int(candidates.counts.max()))
    return list(torch.arange(len(candidates), device=candidates.indptr.device).split(max(1, min(chunk_size, CELLS // widest))))
