"""Task: what the experiment asks of a task, whatever is learned and asked there."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch


class Task(Protocol):
    """From a split: training batches, and evaluation tasks. All tasks are built alike."""

    monitor: ClassVar[str]
    """The validation metric to watch where nothing else is said."""

    def __init__(self, inputs: TaskInputs) -> None: ...

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        ...

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[Any]]]:
        """One epoch: the graph to learn every step on, and its batch."""
        ...

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[Any]:
        """The ranking of all candidates, and the relevant ones."""
        ...

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """All evaluation tasks by name; the first one is the main one, :meth:`ranking` as a rule."""
        ...
