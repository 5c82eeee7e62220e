"""Groups of queries and items that are reported besides the whole."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.tasks.evaluation_tasks import RankingEvaluation
from gmmrec.typing import ITEM


@dataclass(frozen=True)
class Group:
    """Subset of the queries or items that is reported separately.

    Attributes:
        mask: Members of the group: ``[Q]`` or ``[I]``.
        over: Whether the mask selects queries (``"queries"``) or items. In a group of items, only these count as relevant, and
            queries without any are left out.
        only: Whether to rank the items of the group alone, not among the whole catalogue.
    """

    mask: Tensor
    over: Literal["queries", "items"]
    only: bool = False


def default_groups(graph: MultimodalGraph, task: RankingEvaluation[Any]) -> dict[str, Group]:
    """Return the non-empty groups that every report shows.

    Items with and without training interactions (warm and cold; the cold ones also ranked among themselves), items that lack a
    modality, and users by quartiles of their number of training interactions.
    """
    target = task.query.target
    groups = {}
    cold = graph.degree(target) == 0
    if bool(cold.any()):
        groups["warm items"] = Group(~cold, "items")
        groups["cold items"] = Group(cold, "items")
        groups["cold items among themselves"] = Group(cold, "items", only=True)
    for modality in graph.schema.modalities(target):
        missing = ~graph.features[modality].present
        if bool(missing.any()):
            groups[f"items without {modality}"] = Group(missing, "items")
    user = task.query.users
    if target == ITEM and user is not None and bool((user >= 0).all()):  # -1 is no particular user
        groups |= activity_groups(graph.degree("user")[user.to(cold.device)])
    return groups


def activity_groups(degree: Tensor) -> dict[str, Group]:
    """Return queries in at most four bins of nearly equal size by the user's degree ``[Q]``, and a group of new users."""
    seen = degree > 0
    groups = {} if bool(seen.all()) else {"users without training interactions": Group(~seen, "queries")}
    if not bool(seen.any()):
        return groups
    ordered = degree[seen].sort().values
    share = torch.tensor([0.25, 0.5, 0.75, 1.0], device=degree.device)
    ends = torch.unique(ordered[(share * ordered.numel()).ceil().long() - 1])  # the highest degree of every bin
    start = int(ordered[0])
    for end in ends.long().tolist():
        span = f"{start}" if start == end else f"{start} to {end}"
        groups[f"users with {span} training interactions"] = Group((degree >= start) & (degree <= end), "queries")
        start = end + 1
    return groups
