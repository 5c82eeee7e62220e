"""Decoder of item-item models, in which a user is represented by the items of their history."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gmmrec.nn.propagate import structure_of


def history_matrix(edge_index: Tensor, num_items: int, num_users: int) -> Tensor:
    """Build the interaction matrix, a sparse CSR matrix of ones ``[U, I]``.

    Args:
        edge_index: Edges from items to users ``[2, E]``; an ``EdgeIndex`` is grouped only once.
        num_items: Number of items.
        num_users: Number of users.

    >>> history_matrix(torch.tensor([[0, 2, 1], [0, 0, 1]]), 3, 2).to_dense()
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """
    by_user = structure_of(edge_index, num_items, num_users).by_target
    return by_user.matrix(torch.ones(by_user.indices.shape[0], device=by_user.indices.device))


def history_scores(histories: Tensor, weights: Tensor, users: Tensor, candidates: Tensor) -> Tensor:
    """Sum the weights from the items of a history to the candidates: rows of ``X B``, without holding that matrix.

    Every history is summed in its own order, so equal histories get equal scores, bit for bit.

    Args:
        histories: X ``[U, I]``, sparse CSR; its values are taken as ones.
        weights: B ``[I, I]``; row: the item of the history, column: the candidate.
        users: Rows ``[B]`` of ``histories``.
        candidates: Columns of ``weights``: ``[C]``, shared, or ``[B, C]``.

    Returns:
        Scores ``[B, C]``; zeros for an empty history.

    >>> histories = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).to_sparse_csr()
    >>> weights = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [9.0, 9.0, 0.0]])
    >>> history_scores(histories, weights, torch.arange(2), torch.tensor([2, 0]))
    tensor([[6., 3.],
            [0., 0.]])
    """
    indptr, items = histories.crow_indices().long(), histories.col_indices()
    start, count = indptr[users], indptr[users + 1] - indptr[users]
    offset = count.cumsum(0) - count
    shift = torch.repeat_interleave(start - offset, count)
    history = items[torch.arange(shift.numel(), device=shift.device) + shift]
    scores = F.embedding_bag(history.long(), weights, offset, mode="sum")  # [B, I]: cheaper than selecting columns of B first
    return scores.index_select(1, candidates) if candidates.dim() == 1 else scores.gather(1, candidates)
