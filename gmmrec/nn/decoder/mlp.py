"""Multi-layer perceptron on pairs of vectors."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.blocks import block_rows
from gmmrec.nn.chunks import in_chunks
from gmmrec.nn.dropout import Dropout

CELLS = 2**21
"""Maximum number of cells in the widest layer of a chunk of pairs: 8 MB."""


class MLPDecoder(nn.Module):
    r"""Score of a perceptron on both vectors concatenated, :math:`\mathrm{MLP}([\mathbf{q} \| \mathbf{c}])`.

    The first layer is :math:`\mathbf{W}_q \mathbf{q} + \mathbf{W}_c \mathbf{c} + \mathbf{b}`: each half is computed once per vector
    instead of once per pair. Pairs are scored in chunks of candidates; no ``[B, C, H]`` tensor is held.

    Args:
        query_dim: Width of a query.
        candidate_dim: Width of a candidate (default: ``query_dim``).
        hidden: Widths of the hidden layers, at least one.
        dropout: Dropout probability of the hidden units.
        activation: Activation after every hidden layer.

    Shapes:
        - **input:** queries ``[B, query_dim]``, candidates ``[C, candidate_dim]``, shared by all, or ``[B, C, candidate_dim]``
        - **output:** ``[B, C]``

    Raises:
        UsageError: ``hidden`` is empty.
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
            raise UsageError(
                "the MLP decoder needs at least one hidden layer, but hidden is empty; use the bilinear decoder instead"
            )
        self.query = nn.Linear(query_dim, hidden[0])
        self.candidate = nn.Linear(candidate_dim or query_dim, hidden[0], bias=False)
        layers: list[nn.Module] = [activation(), Dropout(dropout)]
        for width, next_width in pairwise(hidden):
            layers += [nn.Linear(width, next_width), activation(), Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1, bias=False))  # a bias would be the same for all pairs
        self.width = max(hidden)

    def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Score every candidate for its query."""
        left = self.query(queries).unsqueeze(1)  # [B, 1, H]

        def score(part: slice) -> Tensor:
            right = self.candidate(candidates[..., part, :])  # [c, H] or [B, c, H]
            scores: Tensor = self.rest(left + right).squeeze(-1)
            return scores

        return in_chunks(score, candidates.shape[-2], block_rows(CELLS, self.width * len(queries)))
