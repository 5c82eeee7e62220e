"""KINDS: the table of all kinds of evaluation; evaluation, monitoring, files and comparison read it."""

from pathlib import Path
from typing import Any

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
"""By name. A row stands beside the function that evaluates; adding one here makes a kind known to all of gmmrec."""


def kind_of(task: EvaluationTask) -> EvaluationKind:
    """The kind of an evaluation task, by its data class.

    Raises:
        TypeError: There is no such kind.
    """
    by_type = {kind.task: kind for kind in KINDS.values()}
    if type(task) not in by_type:
        known = ", ".join(each.__name__ for each in by_type)
        raise TypeError(
            f"expected an evaluation task of one of the kinds {known}, but got {type(task).__name__}; add a row to KINDS"
        )
    return by_type[type(task)]


def evaluate_task(model: Recommender[Any], graph: MultimodalGraph, task: EvaluationTask, config: EvalConfig) -> Results:
    """Results of a trained model, on the device of its graph, with the groups that every report shows."""
    kind = kind_of(task)
    return kind.evaluate(model, graph, task, config, kind.groups(graph, task))


def monitored_value(
    model: Recommender[Any], graph: MultimodalGraph, task: EvaluationTask, monitor: str, config: EvalConfig
) -> float:
    """One metric of an evaluation task, higher is better (one of which less is better gets a minus sign), at the least cost.

    Raises:
        ValueError: The evaluation task has no such metric.
    """
    kind, metric = kind_of(task), monitor.rpartition("/")[2]
    found = kind.evaluate(model, graph, task, kind.monitoring(metric, config), {}).mean()
    if metric not in found:
        raise ValueError(f"monitor {monitor!r} names no metric of this evaluation task; it has {', '.join(found)}")
    return -found[metric] if metric in kind.lower_is_better else found[metric]


def task_of_metric(monitor: str) -> str:
    """Name of the evaluation task that a metric belongs to; a bare name is a metric of the ranking, or an error of ratings.

    Raises:
        ValueError: A bare name is neither, or the evaluation task has another name now.

    >>> task_of_metric("recall@20"), task_of_metric("rmse"), task_of_metric("impressions/auc")
    ('ranking', 'rating', 'impressions')
    """
    refuse_renamed(monitor)
    task, slash, metric = monitor.rpartition("/")
    if slash:
        return task
    bare = [kind.name for kind in KINDS.values() if kind.bare(metric)]
    if not bare:
        parse_metric(metric)  # says how metrics are written
    return bare[0]


def metric_name(task: str, results: Results, metric: str) -> str:
    """Name of a metric among those of all evaluation tasks: with ``TASK/`` in front, unless it needs none.

    >>> import torch
    >>> results = Results(RANKING, {}, torch.empty(0), torch.empty(0), "none")
    >>> metric_name("ranking", results, "recall@20"), metric_name("next_visit", results, "recall@20")
    ('recall@20', 'next_visit/recall@20')
    """
    alone = task == results.kind.name and results.kind.bare(metric)
    return metric if alone else f"{task}/{metric}"


def load_results(folder: str | Path, task: str = RANKING.name) -> Results:
    """Reads the values per question of one evaluation task of a finished run.

    Raises:
        ValueError: The folder holds no such results, or none that can be read.
    """
    return Results.load(folder, task, KINDS)
