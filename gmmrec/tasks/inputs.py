"""Inputs of the tasks: a split, sizes, and the settings of batches and of the model."""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from gmmrec.config import check_literals, check_positive
from gmmrec.data.reviews import Reviews
from gmmrec.data.split import Split
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.errors import UsageError


@dataclass(frozen=True)
class BatchConfig:
    """Training batches."""

    batch_size: int = 2048
    """Interactions per step."""
    num_negatives: int = 1
    """Negative items per interaction."""
    negatives_from: Literal["all", "train"] = "all"
    """Draw negatives from all items or from training items only; never an item the user has in training."""
    sampled: bool = False
    """Train each batch on the sampled neighbourhood of its users and items instead of the whole graph."""
    num_neighbors: tuple[int, ...] = (-1, -1)
    """Edges kept per node and relation of a sampled neighbourhood, by hop; -1 for all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_neighbors", tuple(self.num_neighbors))
        if not self.num_neighbors or min(self.num_neighbors) < -1:
            raise UsageError(f"num_neighbors must hold a number for every hop, -1 for all, but is {list(self.num_neighbors)}")
        check_positive(batch_size=self.batch_size, num_negatives=self.num_negatives)
        check_literals(self)


@dataclass(frozen=True)
class TaskInputs:
    """Inputs shared by all tasks; each reads what it needs.

    Attributes:
        split: Training, validation and test interactions, with impressions, outfits and triples where the data have them.
        num_users: Number of users, with or without interactions.
        num_items: Number of items, with or without interactions.
        batches: Settings of training batches.
        reviews: Review texts, for models that learn from them.
        settings: Settings of the model, such as the length of histories.
        item_order: Position of every item in the order of raw ids ``[I]``, for ties in lists; by default its row.
        users: Raw ids of the users, for messages.
    """

    split: Split
    num_users: int
    num_items: int
    batches: BatchConfig = field(default_factory=BatchConfig)
    reviews: Reviews | None = None
    settings: Any = None
    item_order: Tensor | None = None
    users: Vocabulary | None = None

    @property
    def more_negatives(self) -> str:
        """Remedy for users who have all items that negatives are drawn from; empty if these are all items."""
        return "" if self.batches.negatives_from == "all" else "set negatives_from to 'all'"
