"""Evaluation of compatibility: discrimination between compatible outfits and random ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gmmrec.abilities import ScoresCompatibility, offered
from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.groups import Group
from gmmrec.evaluation.report import table_report
from gmmrec.evaluation.results import EvaluationKind, Results
from gmmrec.evaluation.scoring import tiled_scores
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Encoded, encode
from gmmrec.tasks.evaluation_tasks import CompatibilityEvaluation
from gmmrec.tasks.query import OutfitQuery


def evaluate_compatibility(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: CompatibilityEvaluation,
    *,
    chunk_size: int = EvalConfig.chunk_size,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Rank outfits by compatibility and measure the AUC of the compatible ones.

    Args:
        model: A trained model, on the device of ``graph``.
        graph: Graph returned by ``model.prepare``.
        task: Outfits with their labels.
        chunk_size: Outfits scored at once.
        bootstrap: Resamples behind the interval.

    Returns:
        ``auc`` of every outfit, see :func:`shares`; the mean over all outfits is the AUC.

    Raises:
        UsageError: The model scores NaN.
    """
    task = task.to(graph.degree(task.query.target).device)
    with evaluating(model):
        encoded = encode(model, graph)
        parts = torch.arange(len(task), device=task.label.device).split(chunk_size)
        found = torch.cat([compatibility_scores(model, encoded, task.query.take(part)) for part in parts]).float()
    if bool(found.isnan().any()):
        raise UsageError(f"{type(model).__name__} returned NaN scores; its training has diverged")
    query = task.query
    rows = (query.outfit + 1).masked_fill(~query.outfit_mask, 0)
    number = (rows * -7046029254386353131 ^ rows).sum(1) * 2 + task.label  # the same for the same items in any order
    return Results(
        COMPATIBILITY, {"auc": shares(found, task.label).cpu()}, torch.arange(len(task)), number.cpu(), "none", bootstrap=bootstrap
    )


def compatibility_scores(model: AnyRecommender, encoded: Encoded, query: OutfitQuery) -> Tensor:
    """Return the compatibility of each outfit ``[B]``: the model's own, or else the mean score of its items.

    Every item is scored as the completion of the rest of its outfit.
    """
    if scorer := offered(model, ScoresCompatibility):
        return scorer.compatibility(encoded, query)
    row, column = query.outfit_mask.nonzero(as_tuple=True)
    scores = tiled_scores(model, encoded, query.without(row, column), query.outfit[row, column][:, None])
    total = scores.new_zeros(len(query)).index_add_(0, row, scores.flatten())
    return total / query.outfit_mask.sum(1)


def shares(scores: Tensor, label: Tensor) -> Tensor:
    """Return the share of correctly ordered pairs per outfit: compatible ones should score above all others.

    For a compatible outfit, that is the share of the others that score less; for another, the share of the compatible ones that
    score more. Ties count half. The mean over all is the area under the ROC curve, as is the mean over either kind.

    Args:
        scores: ``[n]``.
        label: Whether each outfit is compatible ``[n]`` (bool).

    >>> shares(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, True, False]))
    tensor([1.0000, 0.0000, 0.5000])
    """
    found = torch.empty_like(scores, dtype=torch.float32)
    for kind, sign in ((label, 1.0), (~label, -1.0)):
        same, others = sign * scores[kind], (sign * scores[~kind]).sort().values
        below, not_above = (torch.searchsorted(others, same, right=right) for right in (False, True))
        found[kind] = (below + not_above) / (2 * len(others))
    return found


def _evaluate(
    model: AnyRecommender,
    graph: MultimodalGraph,
    task: CompatibilityEvaluation,
    config: EvalConfig,
    groups: Mapping[str, Group],
) -> Results:
    return evaluate_compatibility(model, graph, task, chunk_size=config.chunk_size, bootstrap=config.bootstrap)


COMPATIBILITY = EvaluationKind(
    name="compatibility",
    task=CompatibilityEvaluation,
    unit="sets",
    paired_by="set",
    headline="sets of items, compatible or random; chance is 0.5",
    evaluate=_evaluate,
    report=table_report,
)
