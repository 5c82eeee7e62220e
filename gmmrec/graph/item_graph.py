"""Item-item graphs by feature similarity, in one modality or a mixture of several."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import coalesce

from gmmrec.config import check_choice
from gmmrec.errors import UsageError
from gmmrec.graph.edges import normalize
from gmmrec.graph.knn import Backend, Weighting, knn_edges
from gmmrec.graph.multimodal import MultimodalGraph


def item_graph(
    graph: MultimodalGraph,
    shares: Mapping[str, float],
    k: int = 10,
    *,
    weighting: Weighting = "binary",
    degrees: Literal["incoming", "both_ends"] = "incoming",
    backend: Backend = "exact",
    alone: Literal["itself", "nothing"] = "itself",
) -> tuple[Tensor, Tensor]:
    """Mix normalised k-nearest-neighbour graphs, one per modality: the frozen graph of FREEDOM.

    The shares of every item sum to 1: if an item lacks a modality, the shares of its other modalities are scaled up.

    Args:
        graph: Graph with the features.
        shares: Weight of every modality.
        k: Neighbours per modality, the item itself included.
        weighting: Weights of the neighbours: uniform or cosine similarity (negative values count as 0).
        degrees: See :func:`gmmrec.graph.edges.normalize`.
        backend: Backend of the neighbour search.
        alone: Neighbours of an item without any modality: itself or none.

    Returns:
        Edges ``[2, E]`` from a neighbour to the item, and weights ``[E]`` greater than 0.
    """
    check_choice(("itself", "nothing"), alone=alone)
    num_items = graph.num_nodes("item")
    present = torch.stack([graph.features[name].present for name in shares], dim=1)  # [I, M]
    share = present * torch.tensor(list(shares.values()), device=present.device)
    total = share.sum(1, keepdim=True)
    share = torch.where(total > 0, share / total, 0.0)
    featureless = torch.nonzero(total[:, 0] == 0).flatten() if alone == "itself" else total.new_empty(0, dtype=torch.long)
    edge_indices, weights = [torch.stack([featureless, featureless])], [share.new_ones(featureless.numel())]
    for column, name in enumerate(shares):
        if not bool(share[:, column].any()):
            continue
        edge_index, weight = knn_edges(graph.features[name], k, weighting=weighting, backend=backend)
        weight = normalize(edge_index, (num_items, num_items), weight.clamp(min=0), degrees=degrees)
        weight = weight * share[edge_index[1], column]
        edge_indices.append(edge_index[:, weight > 0])
        weights.append(weight[weight > 0])
    edge_index, weight = coalesce(torch.cat(edge_indices, dim=1), torch.cat(weights), num_nodes=num_items, reduce="sum")
    return edge_index, weight


def modality_shares(modalities: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return the share of every modality in the item graph; the shares sum to 1.

    Raises:
        UsageError: There is no modality, or the weights name an unknown one.

    >>> modality_shares(("image", "text"), None)
    {'image': 0.1, 'text': 0.9}
    >>> modality_shares(("image", "audio"), {"image": 1, "audio": 3})
    {'image': 0.25, 'audio': 0.75}
    """
    if not modalities:
        raise UsageError(
            "an item graph needs features of at least one modality of the items, but there are none; add some or use lightgcn"
        )
    if weights is None:
        weights = {"image": 0.1, "text": 0.9} if set(modalities) == {"image", "text"} else dict.fromkeys(modalities, 1.0)
    unknown = [name for name in weights if name not in modalities]
    if unknown:
        raise UsageError(
            f"modality_weights name {unknown[0]!r}, but the modalities of the items are {', '.join(map(repr, modalities))}"
        )
    total = sum(weights.values())
    return {name: weights.get(name, 0) / total for name in modalities}
