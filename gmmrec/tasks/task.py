"""Task: what the experiment asks of a task, whatever is learned and asked there."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import torch

from gmmrec.data.reviews import Reviews
from gmmrec.data.split import Split
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.collaborative import CollaborativeConfig
from gmmrec.tasks.query import Batch
from gmmrec.tasks.questions import Questions


class Task(Protocol):
    """From a split: training batches, and questions to be asked. All tasks are built alike."""

    def __init__(
        self, split: Split, num_users: int, num_items: int, config: CollaborativeConfig = ..., reviews: Reviews | None = ...
    ) -> None: ...

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        ...

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[Any]]]:
        """One epoch: the graph to learn every step on, and its batch."""
        ...

    def questions(self, part: Literal["valid", "test"], mask: Literal["train", "train+valid"] = "train") -> Questions[Any]:
        """What is asked of a model, and the right answers."""
        ...
