"""Evaluation of rating prediction: errors of held-out ratings, overall and by groups."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gmmrec.errors import UsageError
from gmmrec.evaluation.evaluator import evaluating
from gmmrec.evaluation.groups import Group, activity_groups
from gmmrec.evaluation.metrics import ERRORS
from gmmrec.evaluation.report import table_report
from gmmrec.evaluation.results import EvaluationKind, GroupValues, Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import AnyRecommender, Recommender, encode
from gmmrec.tasks.evaluation_tasks import RatingEvaluation

CHUNK = 4096
"""Ratings predicted at once."""


def evaluate_ratings(
    model: AnyRecommender,
    graph: MultimodalGraph,
    ratings: RatingEvaluation[Any],
    *,
    clip: bool = EvalConfig.clip_ratings,
    groups: Mapping[str, Group] | None = None,
    chunk_size: int = CHUNK,
    bootstrap: int = EvalConfig.bootstrap,
) -> Results:
    """Predict every rating by ``model.score`` and measure the errors.

    Args:
        model: A model whose scores are ratings, on the device of ``graph``.
        graph: Graph returned by ``model.prepare``.
        ratings: Ratings to predict.
        clip: Whether to clip predictions to the range of the training ratings.
        groups: Groups of ratings (``over="queries"``) reported besides the whole; see :func:`rating_groups`.
        chunk_size: Ratings predicted at once.
        bootstrap: Resamples per interval.

    Returns:
        One value per rating: its squared error under ``"rmse"`` (the mean is reported as its root) and its absolute error under
        ``"mae"``. A query is a pair, identified by ``user * I + item``.

    Raises:
        UsageError: The model predicts NaN.
    """
    ratings = ratings.to(graph.degree("user").device)
    with evaluating(model):
        encoded = encode(model, graph)
        parts = []
        for start in range(0, len(ratings), chunk_size):
            part = slice(start, start + chunk_size)
            parts.append(model.score(encoded, ratings.query.take(part), ratings.item[part, None]).float().flatten())
    predicted = torch.cat(parts)
    if bool(predicted.isnan().any()):
        raise UsageError(f"{type(model).__name__} predicts NaN ratings; its training has diverged")
    if clip:
        predicted = predicted.clamp(*ratings.bounds)
    values = {name: error(predicted, ratings.rating).cpu() for name, error in ERRORS.items()}
    by_group = {}
    for name, group in (groups or {}).items():
        position = group.mask.cpu().nonzero().flatten()
        if position.numel():
            by_group[name] = GroupValues(position, {metric: value[position] for metric, value in values.items()})
    pair: Tensor = ratings.query.user * graph.num_nodes("item") + ratings.item
    exact = (ratings.rating.double() * 2**20).round().long()  # identifies the ratings, to compare runs
    return Results(RATING, values, pair.cpu(), exact.cpu(), "none", by_group, bootstrap=bootstrap)


def rating_groups(graph: MultimodalGraph, ratings: RatingEvaluation[Any]) -> dict[str, Group]:
    """Return the non-empty groups that every report shows: by items (cold, without a modality) and by the users' activity."""
    user, item = (rows.to(graph.degree("user").device) for rows in (ratings.query.user, ratings.item))
    cold = graph.degree("item")[item] == 0
    groups = {}
    if bool(cold.any()):
        groups = {"warm items": Group(~cold, "queries"), "cold items": Group(cold, "queries")}
    for modality in graph.schema.modalities():
        missing = ~graph.features[modality].present[item]
        if bool(missing.any()):
            groups[f"items without {modality}"] = Group(missing, "queries")
    return groups | activity_groups(graph.degree("user")[user])


def _evaluate(
    model: Recommender[Any],
    graph: MultimodalGraph,
    task: RatingEvaluation[Any],
    config: EvalConfig,
    groups: Mapping[str, Group],
) -> Results:
    return evaluate_ratings(model, graph, task, clip=config.clip_ratings, groups=groups, bootstrap=config.bootstrap)


RATING = EvaluationKind(
    name="rating",
    task=RatingEvaluation,
    unit="ratings",
    paired_by="rating",
    headline="ratings predicted; lower is better",
    evaluate=_evaluate,
    report=table_report,
    groups=rating_groups,
    lower_is_better=frozenset(ERRORS),
    bare=ERRORS.__contains__,
)
