"""Task: what the experiment asks of a task, whatever is learned and asked there."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch

from gmmrec.data.reviews import Reviews
from gmmrec.data.split import Split
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import CollaborativeConfig
from gmmrec.tasks.query import Batch
from gmmrec.tasks.questions import Exam, Mask, Questions


class Task(Protocol):
    """From a split: training batches, and questions to be asked. All tasks are built alike."""

    monitor: ClassVar[str]
    """The validation metric to watch where nothing else is said."""

    def __init__(
        self,
        split: Split,
        num_users: int,
        num_items: int,
        config: CollaborativeConfig = ...,
        reviews: Reviews | None = ...,
        settings: Any = ...,
    ) -> None: ...

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        ...

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[Any]]]:
        """One epoch: the graph to learn every step on, and its batch."""
        ...

    def questions(self, part: Literal["valid", "test"], mask: Mask = "train") -> Questions[Any]:
        """What a model is to rank, and the right answers."""
        ...

    def exams(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, Exam]:
        """All that a model is asked, by name; the ranking, of :meth:`questions`, comes first."""
        ...
