"""Concatenation, then a linear map."""

from torch import Tensor, nn

from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing


class ConcatFusion(nn.Module):
    r"""Linear map of the concatenated tokens, back to the width of one.

    .. math:: \mathbf{z} = \mathbf{W} [\mathbf{x}^1 \| \dots \| \mathbf{x}^M] + \mathbf{b}

    Missing tokens are zeros and contribute nothing. The order of the tokens matters: each has its own part of :math:`\mathbf{W}`.

    Args:
        dim: Width of a token and of the output.
        num_tokens: Number of tokens M.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. As concatenation has no weights, uniform ones are returned
    """

    def __init__(self, dim: int, num_tokens: int) -> None:
        super().__init__()
        self.project = nn.Linear(num_tokens * dim, dim)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        fused: Tensor = self.project(hide_missing(tokens, mask).flatten(-2))
        if mask is not None:  # no bias for rows without tokens
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, uniform_weights(tokens, mask)) if return_weights else fused
