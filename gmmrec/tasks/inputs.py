"""Inputs of the tasks: a split, sizes, and the settings of batches and of the model."""

from dataclasses import dataclass, field
from typing import Any, Literal

from gmmrec.config import check_literals, check_positive
from gmmrec.data.reviews import Reviews
from gmmrec.data.split import Split


@dataclass(frozen=True)
class BatchConfig:
    """How training batches are made."""

    batch_size: int = 2048
    """Interactions a step."""
    num_negatives: int = 1
    """Items drawn against every interaction."""
    negatives_from: Literal["all", "train"] = "all"
    """Draw them from all items, or only from those that occur in training; never one the user has in training."""
    sampled: bool = False
    """Learn every batch on the neighbourhood of its users and items instead of the whole graph."""
    num_neighbors: tuple[int, ...] = (-1, -1)
    """Edges a node of a sampled neighbourhood keeps in every relation, hop by hop; -1 for all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_neighbors", tuple(self.num_neighbors))
        if not self.num_neighbors or min(self.num_neighbors) < -1:
            raise ValueError(f"num_neighbors must hold a number for every hop, -1 for all, but is {list(self.num_neighbors)}")
        check_positive(batch_size=self.batch_size, num_negatives=self.num_negatives)
        check_literals(self)


@dataclass(frozen=True)
class TaskInputs:
    """Everything a task is built from. All tasks take the same; each reads what it needs.

    Attributes:
        split: Training, validation and test interactions, with impressions, outfits and triples where the data have them.
        num_users: Number of users, with or without interactions.
        num_items: Number of items, with or without interactions.
        batches: How batches are made.
        reviews: Texts of the reviews, for models that learn from them.
        settings: Those of the model, such as the length of its histories.
    """

    split: Split
    num_users: int
    num_items: int
    batches: BatchConfig = field(default_factory=BatchConfig)
    reviews: Reviews | None = None
    settings: Any = None
