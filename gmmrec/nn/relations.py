"""Names for what a bipartite graph is made of, so that layers take three arguments and not nine."""

from typing import NamedTuple

from torch import Tensor


class UserItem(NamedTuple):
    """One tensor for users ``[U, ...]`` and one for items ``[I, ...]``."""

    user: Tensor
    item: Tensor


class Relation(NamedTuple):
    """Edges ``edge_index`` ``[2, E]`` (source, target; best an ``EdgeIndex`` sorted by target) and ``weight`` ``[E]`` or None."""

    edge_index: Tensor
    weight: Tensor | None = None


class Bipartite(NamedTuple):
    """User-item edges in both directions, and how many edges every node has in the whole graph.

    Attributes:
        to_user: Edges from items to users.
        to_item: The same edges from users to items.
        degree: Float tensors ``[U]`` and ``[I]``.
        between_users: Edges between users, such as of those who share items, where a model has them.
        between_items: Edges between items likewise.
    """

    to_user: Relation
    to_item: Relation
    degree: UserItem
    between_users: Relation | None = None
    between_items: Relation | None = None
