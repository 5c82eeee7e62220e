"""Interface of a training task."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import TaskInputs
from gmmrec.tasks.query import Batch


class Task(Protocol):
    """Training batches and evaluation tasks of a split. All tasks have the same constructor."""

    monitor: ClassVar[str]
    """Default validation metric to monitor."""

    def __init__(self, inputs: TaskInputs) -> None: ...

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        ...

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[Any]]]:
        """Yield one epoch: for every step, the graph to train on and its batch."""
        ...

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[Any]:
        """Return the ranking of all candidates."""
        ...

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return all evaluation tasks by name; the first is the main one, usually :meth:`ranking`."""
        ...
