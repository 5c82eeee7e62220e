"""Scores in blocks of full tiles, so that a score depends neither on the batch nor on the block it is computed in."""

from typing import Any

import torch
from torch import Tensor

from gmmrec.errors import UsageError
from gmmrec.recommender import AnyRecommender, Encoded

QUERIES, CANDIDATES = 8, 16
"""Tile of a block. BLAS libraries compute the rows and columns outside whole tiles, single rows above all, by other kernels, which
add in another order: the last of 7,051 identical items scored 1e-6 away from the others when one user was asked."""


def tiled_scores(model: AnyRecommender, encoded: Encoded, query: Any, candidates: Tensor) -> Tensor:
    """Return a model's scores ``[B, C]``, with the same bits for the same query and candidate in every block.

    The block is filled up to multiples of 8 queries and 16 candidates with its last ones, whose scores are dropped. Within whole
    tiles, a product adds in an order that depends on the width alone. So identical candidates tie exactly, whatever is scored with
    them, if the model treats pairs alike.

    Args:
        model: Only its ``score`` is called.
        encoded: Encoding returned by ``model.encode``.
        query: ``B`` queries.
        candidates: Rows ``[C]`` or ``[B, C]``.

    Returns:
        Scores in the precision of the model, perhaps a view of its state: copy before writing.

    Raises:
        UsageError: The model returns scores of a wrong shape.
    """
    queries, count = len(query), candidates.shape[-1]
    if not queries or not count:
        return torch.empty(queries, count, device=candidates.device)
    row, column = full_tiles(queries, count, candidates.device)
    if column.numel() > count and (count > 1 or candidates.dim() == 1):  # one candidate for each query is always one dot product
        candidates = candidates[..., column]
    if row.numel() > queries:
        query = query.take(row)
        candidates = candidates[row] if candidates.dim() == 2 else candidates
    scores = model.score(encoded, query, candidates)
    expected = (len(query), candidates.shape[-1])
    if scores.shape != expected:
        raise UsageError(f"{type(model).__name__}.score must return scores of shape {expected}, but returned {tuple(scores.shape)}")
    return scores[:queries, :count]


def full_tiles(queries: int, candidates: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return positions of queries and candidates, the last ones repeated up to whole tiles.

    >>> full_tiles(3, 16, torch.device("cpu"))[0]
    tensor([0, 1, 2, 2, 2, 2, 2, 2])
    """
    row, column = (
        torch.arange(-(-size // tile) * tile, device=device).clamp(max=max(size - 1, 0))
        for size, tile in ((queries, QUERIES), (candidates, CANDIDATES))
    )
    return row, column
