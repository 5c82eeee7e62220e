"""Triples (head, relation, tail) of a knowledge graph, and the alignment of items with its entities."""

from dataclasses import dataclass, replace

from torch import Tensor

from gmmrec.errors import UsageError


@dataclass(frozen=True)
class Triples:
    """``n`` triples.

    Attributes:
        head: Rows of head entities ``[n]``.
        relation: Rows of relations ``[n]``.
        tail: Rows of tail entities ``[n]``.
        part: Part of each triple ``[n]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        entity: Entity of every item of the data set ``[I]``, -1 for none; None without an alignment.

    Raises:
        UsageError: Columns differ in length.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    part: Tensor
    entity: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("relation", "tail", "part"):
            if getattr(self, name).shape != self.head.shape:
                raise UsageError(f"there are {len(self)} heads, but {getattr(self, name).numel()} values of {name!r}")

    def __len__(self) -> int:
        return self.head.numel()

    @property
    def num_relations(self) -> int:
        """Number of relations; every relation of the vocabulary occurs in some triple."""
        return int(self.relation.max()) + 1 if len(self) else 0

    def take(self, index: Tensor) -> "Triples":
        """Return the triples at positions ``[n]`` or under a mask, with the same alignment."""
        return replace(self, **{name: getattr(self, name)[index] for name in ("head", "relation", "tail", "part")})
