"""Triples: facts of a knowledge graph, head - relation - tail, and how items stand in it."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Triples:
    """``n`` facts.

    Attributes:
        head: Rows of entities ``[n]``.
        relation: Rows of relations ``[n]``.
        tail: Rows of entities ``[n]``.
        part: Part of each fact ``[n]``, as codes of :class:`~gmmrec.data.parts.SplitPart`.
        entity: The entity of every item of the data set ``[I]``, -1 for none; None where items are not aligned with entities.

    Raises:
        ValueError: Columns differ in length.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    part: Tensor
    entity: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("relation", "tail", "part"):
            if getattr(self, name).shape != self.head.shape:
                raise ValueError(f"there are {len(self)} heads, but {getattr(self, name).numel()} values of {name!r}")

    def __len__(self) -> int:
        return self.head.numel()

    @property
    def num_relations(self) -> int:
        """Number of relations; every one that has a name occurs in a fact of some part."""
        return int(self.relation.max()) + 1 if len(self) else 0

    def take(self, index: Tensor) -> "Triples":
        """The facts at positions ``[n]`` or under a mask, in the same knowledge of items."""
        return replace(self, **{name: getattr(self, name)[index] for name in ("head", "relation", "tail", "part")})
