"""The contract: what a model must be able to do, and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor, nn

from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.tasks.query import Batch, Q, Query
from gmmrec.typing import NodeType


class Recommender(nn.Module, ABC, Generic[Q]):
    """Ranks candidates for queries of one kind.

    Subclasses are final, and are built as ``Model(schema, config)``: sizes and settings, never data.
    Three methods are to be written; the hooks have defaults that return the graph as it is, and take over nothing.
    """

    query_type: ClassVar[type[Query]]
    config_class: ClassVar[type]

    def __init__(self, schema: GraphSchema, config: Any) -> None:
        super().__init__()
        self.schema, self.config = schema, config

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Adds the edges this paper derives from the data. Called once per graph, without gradients."""
        return graph

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """The graph to train on in the coming epoch: where a paper drops edges anew each epoch, it does so here.

        Evaluation always uses the prepared graph itself. Called before the first batch of every epoch, without gradients.
        """
        return graph

    def start_from(self, source: "Recommender[Any]") -> bool:
        """Takes over what a model shares with a finished one of another domain; whether it did so.

        A model that does not, as by default, begins with the vectors of the users and items that both know.

        Raises:
            ValueError: The source is of another kind or size.
        """
        return False

    @abstractmethod
    def encode(self, graph: MultimodalGraph) -> dict[NodeType, Tensor]:
        """Representations by node type, one row a node of ``graph``; computed once per evaluation, as in PyG's ``x_dict``.

        Never assumes that ``graph`` is whole: id tables are read with ``graph.gather``, features through ``graph.features``.
        """

    @abstractmethod
    def score(self, encoded: Mapping[NodeType, Tensor], query: Q, candidates: Tensor) -> Tensor:
        """Scores ``[B, C]``; candidates are rows ``[C]``, shared, or ``[B, C]``, per query. Higher is better."""

    @abstractmethod
    def loss(self, graph: MultimodalGraph, batch: Batch[Q]) -> dict[str, Tensor]:
        """Named, already weighted terms; the trainer adds them up and reports each.

        A model without trainable parameters returns an empty dictionary and is fitted by ``prepare``.
        """
