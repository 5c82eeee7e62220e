"""Concatenation, then a linear map."""

from torch import Tensor, nn

from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing


class ConcatFusion(nn.Module):
    r"""All tokens side by side, mapped back to the width of one.

    .. math:: \mathbf{z} = \mathbf{W} [\mathbf{x}^1 \| \dots \| \mathbf{x}^M] + \mathbf{b}

    A missing token is zeros, so that it adds nothing to the sum. Not invariant to the order of the tokens: each has its own part of
    :math:`\mathbf{W}`.

    Args:
        dim: Width of a token and of the result.
        num_tokens: M.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token. The weights, which concatenation has none of, are equal shares
    """

    def __init__(self, dim: int, num_tokens: int) -> None:
        super().__init__()
        self.project = nn.Linear(num_tokens * dim, dim)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        fused: Tensor = self.project(hide_missing(tokens, mask).flatten(-2))
        if mask is not None:  # without a token there is no bias either
            fused = fused.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return (fused, uniform_weights(tokens, mask)) if return_weights else fused
