"""The contract that every model implements. Optional abilities are in :mod:`gmmrec.abilities`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, get_args, get_origin

import torch
from torch import Tensor, nn
from typing_extensions import Self, TypeVar

from gmmrec.errors import UsageError, WrongTypeError
from gmmrec.graph.multimodal import GraphSchema, MultimodalGraph
from gmmrec.tasks.query import Batch, Query
from gmmrec.typing import NodeType

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, eq=False)
class Encoded(Mapping[NodeType, Tensor]):
    """Node representations, read like a dictionary: ``encoded["item"]`` is ``[I, D]``.

    A model that encodes more declares a frozen subclass with further fields and passes it as the third argument of
    :class:`Recommender`. These fields hold tensors, None, plain values, or tuples, mappings and dataclasses of them.

    >>> @dataclass(frozen=True, eq=False)
    ... class Biased(Encoded):
    ...     item_bias: Tensor
    >>> encoded = Biased({"user": torch.ones(2, 4), "item": torch.ones(3, 4)}, item_bias=torch.zeros(3))
    >>> list(encoded), encoded["item"].shape, encoded.to("cpu").item_bias
    (['user', 'item'], torch.Size([3, 4]), tensor([0., 0., 0.]))
    """

    nodes: Mapping[NodeType, Tensor]
    """Vectors by node type, one row per node. Item similarity is the cosine between rows of ``nodes["item"]``."""

    def __getitem__(self, node_type: NodeType) -> Tensor:
        return self.nodes[node_type]

    def __iter__(self) -> Iterator[NodeType]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor of every field."""
        return replace(self, **{f.name: _map_tensors(getattr(self, f.name), function) for f in fields(self)})

    def detach(self) -> Self:
        """Detach all tensors."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> Self:
        """Copy all tensors to another device."""
        return self.map(lambda tensor: tensor.to(device))

    def tensors(self) -> list[Tensor]:
        """Return all tensors of all fields, in field order."""
        tensors: list[Tensor] = []

        def collect(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            return tensor

        self.map(collect)
        return tensors


Q = TypeVar("Q", bound=Query)
C = TypeVar("C", bound="DataclassInstance", default=Any)
E = TypeVar("E", bound=Encoded, default=Encoded)


class Recommender(nn.Module, ABC, Generic[Q, C, E]):
    """Base class of all models: a module that scores candidates for queries of one type.

    A model declares its query type, its config (a frozen dataclass) and, if it encodes more than node vectors, its own
    :class:`Encoded`: ``class LightGCN(Recommender[UserQuery, LightGCNConfig])``. Subclasses are final and are constructed as
    ``Model(schema, config)``, from sizes and settings, never from data. Three methods are abstract; the default hooks return
    the graph unchanged.
    """

    query_type: ClassVar[type[Query]]
    """First argument of ``Recommender[...]``."""
    config_class: ClassVar[type[Any]]
    """Second argument of ``Recommender[...]``."""
    config: C
    schema: GraphSchema

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Recommender:
                cls.query_type, cls.config_class = _declared(cls, *(*get_args(base), None)[:2])  # Python 3.10 omits defaults
        if not hasattr(cls, "config_class"):
            raise _undeclared(cls)

    def __init__(self, schema: GraphSchema, config: C) -> None:
        super().__init__()
        self.schema, self.config = schema, config

    def prepare(self, graph: MultimodalGraph) -> MultimodalGraph:
        """Add the edges that the paper derives from the data. Called once per graph, without gradients."""
        return graph

    def begin_epoch(self, graph: MultimodalGraph, generator: torch.Generator) -> MultimodalGraph:
        """Return the training graph of the coming epoch, for papers that drop edges anew in every epoch.

        Evaluation always uses the prepared graph. Called before the first batch of every epoch, without gradients.
        """
        return graph

    @abstractmethod
    def encode(self, graph: MultimodalGraph) -> E:
        """Return representations by node type, one row per node of ``graph``, as in PyG's ``x_dict``. Called once per evaluation.

        ``graph`` may be a subgraph: read ID tables with ``graph.gather`` and features through ``graph.features``.
        """

    @abstractmethod
    def score(self, encoded: E, query: Q, candidates: Tensor) -> Tensor:
        """Return scores ``[B, C]``, higher is better, for candidate rows ``[C]``, shared by all queries, or ``[B, C]``."""

    @abstractmethod
    def loss(self, graph: MultimodalGraph, batch: Batch[Q]) -> dict[str, Tensor]:
        """Return named, already weighted loss terms, which the trainer sums and logs one by one.

        A model without trainable parameters returns an empty dictionary and is fitted by ``prepare``.
        """


AnyRecommender: TypeAlias = Recommender[Any, Any, Any]
"""A model of any query type, config and representations."""


def encode(model: AnyRecommender, graph: MultimodalGraph) -> Encoded:
    """Encode a graph and check the type of the result, for evaluation and serving.

    Raises:
        UsageError: The model returned anything but an :class:`Encoded`, such as a plain dictionary.
    """
    encoded = model.encode(graph)
    if not isinstance(encoded, Encoded):
        name = type(model).__name__
        raise UsageError(
            f"{name}.encode must return an Encoded, but returned a {type(encoded).__name__}; write 'return Encoded({{...}})'"
        )
    return encoded


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), function) for f in fields(value) if f.init})
    if isinstance(value, Mapping):
        return {key: _map_tensors(entry, function) for key, entry in value.items()}
    if isinstance(value, tuple):
        entries = [_map_tensors(entry, function) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    return [_map_tensors(entry, function) for entry in value] if isinstance(value, list) else value


def _declared(cls: type, query_type: Any, config_class: Any) -> tuple[type[Query], type[Any]]:
    if not (isinstance(query_type, type) and issubclass(query_type, Query)):
        raise _undeclared(cls)
    if not (isinstance(config_class, type) and is_dataclass(config_class)):
        raise _undeclared(cls)
    return query_type, config_class


def _undeclared(cls: type) -> WrongTypeError:
    name = cls.__name__
    return WrongTypeError(
        f"{name} must declare its query type and its config, a dataclass; "
        f"write 'class {name}(Recommender[UserQuery, {name}Config])'"
    )
