"""Named tuples for the parts of a bipartite graph, so that layers take three arguments instead of nine."""

from typing import NamedTuple

from torch import Tensor


class UserItem(NamedTuple):
    """One tensor for users ``[U, ...]`` and one for items ``[I, ...]``."""

    user: Tensor
    item: Tensor


class Relation(NamedTuple):
    """Edges ``edge_index`` ``[2, E]`` (source, target; ideally an ``EdgeIndex`` sorted by target), ``weight`` ``[E]`` or None."""

    edge_index: Tensor
    weight: Tensor | None = None


class Bipartite(NamedTuple):
    """User-item edges in both directions, and the degree of every node in the whole graph.

    Attributes:
        to_user: Edges from items to users.
        to_item: The same edges from users to items.
        degree: Float tensors ``[U]`` and ``[I]``.
        between_users: Edges between users, such as those who share items, if a model has them.
        between_items: Edges between items, if a model has them.
    """

    to_user: Relation
    to_item: Relation
    degree: UserItem
    between_users: Relation | None = None
    between_items: Relation | None = None
