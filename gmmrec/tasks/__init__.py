"""What is asked: queries, batches, evaluation tasks. TASKS: by the query that a model answers, the task it is trained with."""

from collections.abc import Callable

from gmmrec.data.split import Split
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.context import ContextTask
from gmmrec.tasks.impressions import ImpressionTask
from gmmrec.tasks.link_prediction import LinkPredictionTask
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import ContextQuery, HistoryQuery, LinkPredictionQuery, OutfitQuery, Query, RatingQuery, UserQuery
from gmmrec.tasks.rating import RatingTask
from gmmrec.tasks.task import Task

TASKS: dict[type[Query], Callable[[Split], type[Task]]] = {
    ContextQuery: lambda split: ContextTask,
    HistoryQuery: lambda split: (
        NextItemTask if split.impressions is None else ImpressionTask
    ),  # histories told beside what was shown
    LinkPredictionQuery: lambda split: LinkPredictionTask,
    OutfitQuery: lambda split: OutfitTask,
    RatingQuery: lambda split: RatingTask,
    UserQuery: lambda split: CollaborativeTask,
}


def task_of(query_type: type[Query], split: Split) -> type[Task]:
    """The task of models that answer a kind of query, on the data at hand.

    Raises:
        ValueError: No task asks such queries.
    """
    if query_type not in TASKS:
        known = ", ".join(query.__name__ for query in TASKS)
        raise ValueError(f"no task asks {query_type.__name__}; set query_type to one of {known}, or add a row to TASKS")
    return TASKS[query_type](split)
