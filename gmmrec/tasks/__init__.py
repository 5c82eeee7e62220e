"""Training tasks: queries, batches, evaluation tasks. ``TASKS`` maps the query type of a model to the task it is trained on."""

from collections.abc import Callable

from gmmrec.data.split import Split
from gmmrec.errors import UsageError
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
    HistoryQuery: lambda split: NextItemTask if split.impressions is None else ImpressionTask,  # impressions come with histories
    LinkPredictionQuery: lambda split: LinkPredictionTask,
    OutfitQuery: lambda split: OutfitTask,
    RatingQuery: lambda split: RatingTask,
    UserQuery: lambda split: CollaborativeTask,
}


def task_of(query_type: type[Query], split: Split) -> type[Task]:
    """Return the task of models with a query type, for a split.

    Raises:
        UsageError: No task has such queries.
    """
    if query_type not in TASKS:
        known = ", ".join(query.__name__ for query in TASKS)
        raise UsageError(
            f"no task has queries of type {query_type.__name__}; set query_type to one of {known}, or add a row to TASKS"
        )
    return TASKS[query_type](split)
