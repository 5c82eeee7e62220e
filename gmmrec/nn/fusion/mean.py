"""Parameter-free fusion: mean and sum."""

from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing


class MeanFusion(nn.Module):
    r"""Mean of the present tokens, :math:`\mathbf{z}_n = \frac{1}{|M_n|} \sum_{m \in M_n} \mathbf{x}_n^m`.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens
    """

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        weights = uniform_weights(tokens, mask)
        fused = (hide_missing(tokens, mask) * weights.unsqueeze(-1)).sum(-2)
        return (fused, weights) if return_weights else fused


class SumFusion(nn.Module):
    r"""Sum of the present tokens, :math:`\mathbf{z}_n = \sum_{m \in M_n} \mathbf{x}_n^m`.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. The weight of every present token is 1
    """

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        fused = hide_missing(tokens, mask).sum(-2)
        if not return_weights:
            return fused
        return fused, tokens.new_ones(tokens.shape[:-1]) if mask is None else mask.to(tokens.dtype)


def uniform_weights(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return uniform weights ``[..., M]`` over the present tokens, which sum to 1.

    >>> import torch
    >>> uniform_weights(torch.zeros(1, 3, 2), torch.tensor([[True, False, True]]))
    tensor([[0.5000, 0.0000, 0.5000]])
    """
    if mask is None:
        return tokens.new_full(tokens.shape[:-1], 1 / tokens.shape[-2])
    present = mask.to(tokens.dtype)
    return present / present.sum(-1, keepdim=True).clamp(min=1)
