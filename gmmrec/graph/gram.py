"""Gram matrices of items, by common users and by feature similarity: dense, ``[I, I]``, and built block by block."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.normalize import unit_rows
from gmmrec.typing import USER_ITEM

BLOCK_ENTRIES = 2**23


def interaction_gram(graph: MultimodalGraph, dtype: torch.dtype = torch.float64) -> Tensor:
    """Count the common users of every two items, ``[I, I]``; the diagonal holds the number of users of each item.

    This is a sparse matrix product, whose cost is the sum over users of their squared history lengths.

    Args:
        graph: Graph with the interactions.
        dtype: Data type of the result.
    """
    num_users, num_items = graph.num_nodes("user"), graph.num_nodes("item")
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor().cpu().numpy()
    by_item = csr_array((np.ones(users.size, dtype=np.float32), (items, users)), shape=(num_items, num_users))
    by_user = by_item.T.tocsr()
    gram = torch.empty(num_items, num_items, dtype=dtype, device=graph.degree("item").device)
    step = block_rows(BLOCK_ENTRIES, num_items)
    for start in range(0, num_items, step):
        gram[start : start + step] = torch.from_numpy((by_item[start : start + step] @ by_user).toarray()).to(gram.device)
    return gram


def add_feature_gram(gram: Tensor, graph: MultimodalGraph, weights: Mapping[str, float], *, center: bool = True) -> Tensor:
    r"""Add the feature similarity of items, :math:`\sum_m w_m \mathbf{F}_m \mathbf{F}_m^\top`, to ``gram`` in place.

    The rows of :math:`\mathbf{F}_m` are centred by the mean over the items with that modality and scaled to unit length; an item
    without the modality has a row of zeros and adds nothing.

    Args:
        gram: ``[I, I]``.
        graph: Graph with the features.
        weights: :math:`w_m` by modality.
        center: Whether to subtract the mean; use True for dense vectors, False for sparse tags.

    Returns:
        ``gram`` itself.
    """
    for name, weight in weights.items():
        table = graph.features[name]
        present = table.present
        if weight == 0 or not bool(present.any()):
            continue
        rows = table.pooled[present].to(gram.dtype)
        features = gram.new_zeros(gram.shape[0], rows.shape[1])
        features[present] = unit_rows(rows - rows.mean(0) if center else rows)
        gram.addmm_(features, features.t(), alpha=weight)
    return gram
