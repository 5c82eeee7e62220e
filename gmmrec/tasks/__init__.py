"""What is asked: queries, batches, truth. TASKS: by the query that a model answers, the task it is trained and asked with."""

from gmmrec.tasks.collaborative import CollaborativeTask
from gmmrec.tasks.context import ContextTask
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
