"""``KINDS``: the table of all kinds of evaluation, read by evaluation, monitoring, files and comparison."""

from pathlib import Path
from typing import Any, Literal

from gmmrec.errors import UsageError, WrongTypeError
from gmmrec.evaluation.candidates import CANDIDATES
from gmmrec.evaluation.compatibility import COMPATIBILITY
from gmmrec.evaluation.evaluator import RANKING
from gmmrec.evaluation.link_prediction import LINK_PREDICTION
from gmmrec.evaluation.metrics import parse_metric
from gmmrec.evaluation.rating import RATING
from gmmrec.evaluation.results import EvaluationKind, Results
from gmmrec.evaluation.settings import EvalConfig
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.recommender import Recommender
from gmmrec.renamed import refuse_renamed
from gmmrec.tasks.evaluation_tasks import EvaluationTask

KINDS: dict[str, EvaluationKind] = {kind.name: kind for kind in (RANKING, CANDIDATES, RATING, COMPATIBILITY, LINK_PREDICTION)}
"""Kinds by name. Each is defined next to its evaluation function; adding it here makes it known to all of gmmrec."""


def kind_of(task: EvaluationTask) -> EvaluationKind:
    """Return the kind of an evaluation task, by its data class.

    Raises:
        WrongTypeError: No kind has this data class.
    """
    by_type = {kind.task: kind for kind in KINDS.values()}
    if type(task) not in by_type:
        known = ", ".join(each.__name__ for each in by_type)
        raise WrongTypeError(
            f"expected an evaluation task of one of the kinds {known}, but got {type(task).__name__}; add a row to KINDS"
        )
    return by_type[type(task)]


def evaluate_task(model: Recommender[Any], graph: MultimodalGraph, task: EvaluationTask, config: EvalConfig) -> Results:
    """Return the results of a trained model, on the device of its graph, with the groups that every report shows."""
    kind = kind_of(task)
    return kind.evaluate(model, graph, task, config, kind.groups(graph, task))


def monitored_value(
    model: Recommender[Any], graph: MultimodalGraph, task: EvaluationTask, monitor: str, config: EvalConfig
) -> float:
    """Compute one metric of an evaluation task at the lowest cost; see :func:`monitored_mode` for its direction.

    Raises:
        UsageError: The evaluation task has no such metric.
    """
    kind, metric = kind_of(task), monitor.rpartition("/")[2]
    found = kind.evaluate(model, graph, task, kind.monitoring(metric, config), {}).mean()
    if metric not in found:
        raise UsageError(f"monitor {monitor!r} is not a metric of this evaluation task; it has {', '.join(found)}")
    return found[metric]


def monitored_mode(task: EvaluationTask, monitor: str) -> Literal["max", "min"]:
    """Return the direction of a metric of an evaluation task: ``"min"`` for an error, ``"max"`` for any other."""
    return "min" if monitor.rpartition("/")[2] in kind_of(task).lower_is_better else "max"


def task_of_metric(monitor: str) -> str:
    """Return the evaluation task of a metric; a bare name is a metric of the ranking, or an error of ratings.

    Raises:
        UsageError: A bare name is neither, or the evaluation task was renamed.

    >>> task_of_metric("recall@20"), task_of_metric("rmse"), task_of_metric("impressions/auc")
    ('ranking', 'rating', 'impressions')
    """
    refuse_renamed(monitor)
    task, slash, metric = monitor.rpartition("/")
    if slash:
        return task
    bare = [kind.name for kind in KINDS.values() if kind.bare(metric)]
    if not bare:
        parse_metric(metric)  # raises with the expected form
    return bare[0]


def metric_name(task: str, results: Results, metric: str) -> str:
    """Return the name of a metric among those of all evaluation tasks, prefixed with ``TASK/`` unless it is bare.

    >>> import torch
    >>> results = Results(RANKING, {}, torch.empty(0), torch.empty(0), "none")
    >>> metric_name("ranking", results, "recall@20"), metric_name("next_visit", results, "recall@20")
    ('recall@20', 'next_visit/recall@20')
    """
    alone = task == results.kind.name and results.kind.bare(metric)
    return metric if alone else f"{task}/{metric}"


def load_results(folder: str | Path, task: str = RANKING.name) -> Results:
    """Read the values per query of one evaluation task of a finished run.

    Raises:
        UsageError: The folder holds no such results, or they cannot be read.
    """
    return Results.load(folder, task, KINDS)
