"""A multi-layer perceptron on pairs."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.dropout import Dropout

CELLS = 2**21
"""Numbers that the widest layer of a chunk of pairs may hold: 8 MB."""


class MLPDecoder(nn.Module):
    r"""Scores a pair by a perceptron on both vectors side by side, :math:`\mathrm{MLP}([\mathbf{q} \| \mathbf{c}])`.

    The first layer is :math:`\mathbf{W}_q \mathbf{q} + \mathbf{W}_c \mathbf{c} + \mathbf{b}`: each half is computed once for a
    vector and not once for a pair. Pairs are scored in chunks of candidates; nothing of the shape ``[B, C, H]`` is held.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate; that of a query where not given.
        hidden: Widths of the hidden layers, at least one.
        dropout: Share of the hidden units that is dropped while training.
        activation: What stands behind every hidden layer.

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]`` for all of them, or ``[B, C, candidate_dim]``
        - **output:** ``[B, C]``

    Raises:
        ValueError: There is no hidden layer.
    """

    def __init__(
        self,
        query_dim: int,
        candidate_dim: int | None = None,
        *,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError(
                "the MLP decoder needs at least one hidden layer, but hidden is empty; use the bilinear decoder instead"
            )
        self.query = nn.Linear(query_dim, hidden[0])
        self.candidate = nn.Linear(candidate_dim or query_dim, hidden[0], bias=False)
        layers: list[nn.Module] = [activation(), Dropout(dropout)]
        for width, next_width in pairwise(hidden):
            layers += [nn.Linear(width, next_width), activation(), Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1, bias=False))  # a bias would be the same for all
        self.width = max(hidden)

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores every candidate for its query."""
        left = self.query(queries).unsqueeze(1)  # [B, 1, H]

        def score(part: slice) -> Tensor:
            right = self.candidate(candidates[..., part, :])  # [c, H] or [B, c, H]
            scores: Tensor = self.rest(left + right).squeeze(-1)
            return scores

        return in_chunks(score, candidates.shape[-2], CELLS // (self.width * max(1, len(queries))))
