"""What is asked: queries, batches, truth. TASKS: by the query that a model answers, the task it is trained and asked with."""

from gmmrec.data.split import Split
from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.context import ContextTask
from gmmrec.tasks.impressions import ImpressionTask
from gmmrec.tasks.link import LinkTask
from gmmrec.tasks.next_item import NextItemTask
from gmmrec.tasks.outfit import OutfitTask
from gmmrec.tasks.query import ContextQuery, HistoryQuery, LinkQuery, OutfitQuery, Query, RatingQuery, UserQuery
from gmmrec.tasks.rating import RatingTask
from gmmrec.tasks.task import Task

TASKS: dict[type[Query], type[Task]] = {
    ContextQuery: ContextTask,
    HistoryQuery: NextItemTask,
    LinkQuery: LinkTask,
    OutfitQuery: OutfitTask,
    RatingQuery: RatingTask,
    UserQuery: CollaborativeTask,
}


def task_of(query_type: type[Query], split: Split) -> type[Task]:
    """The task of models that answer a kind of query: where the data tell what was shown, histories are asked with that."""
    if query_type is HistoryQuery and split.impressions is not None:
        return ImpressionTask
    return TASKS[query_type]
