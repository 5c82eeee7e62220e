"""Gram matrices of items: by common users, and by likeness of features. These are dense, ``[I, I]``, and made block by block."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.nn.normalize import unit_rows
from gmmrec.typing import USER_ITEM

BLOCK_ENTRIES = 2**23


def interaction_gram(graph: MultimodalGraph, dtype: torch.dtype = torch.float64) -> Tensor:
    """How many users every two items share, ``[I, I]``; on the diagonal how many an item has.

    A product of sparse matrices: the cost is the sum over users of the squared length of their history.

    Args:
        graph: Where the interactions are.
        dtype: Number format of the result.
    """
    num_users, num_items = graph.num_nodes("user"), graph.num_nodes("item")
    users, items = graph.edges(USER_ITEM).edge_index.as_tensor().cpu().numpy()
    by_item = csr_array((np.ones(users.size, dtype=np.float32), (items, users)), shape=(num_items, num_users))
    by_user = by_item.T.tocsr()
    gram = torch.empty(num_items, num_items, dtype=dtype, device=graph.degree("item").device)
    step = max(1, BLOCK_ENTRIES // max(1, num_items))
    for start in range(0, num_items, step):
        gram[start : start + step] = torch.from_numpy((by_item[start : start + step] @ by_user).toarray()).to(gram.device)
    return gram


def add_feature_gram(gram: Tensor, graph: MultimodalGraph, weights: Mapping[str, float], *, center: bool = True) -> Tensor:
    r"""Adds the likeness of items by their features, :math:`\sum_m w_m \mathbf{F}_m \mathbf{F}_m^\top`, to ``gram``, in place.

    The rows of :math:`\mathbf{F}_m` have the mean of the items with that modality taken off and are then brought to unit length; an
    item without it has a row of zeros, and so adds nothing.

    Args:
        gram: ``[I, I]``.
        graph: Where the features are.
        weights: :math:`w_m` by modality.
        center: Whether the mean is taken off; leave it on for dense vectors, and off for sparse tags.

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
