"""Mean and sum: fusion without parameters."""

from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing


class MeanFusion(nn.Module):
    r"""The mean of the tokens that are present, :math:`\mathbf{z}_n = \frac{1}{|M_n|} \sum_{m \in M_n} \mathbf{x}_n^m`.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token
    """

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        weights = uniform_weights(tokens, mask)
        fused = (hide_missing(tokens, mask) * weights.unsqueeze(-1)).sum(-2)
        return (fused, weights) if return_weights else fused


class SumFusion(nn.Module):
    r"""The sum of the tokens that are present, :math:`\mathbf{z}_n = \sum_{m \in M_n} \mathbf{x}_n^m`.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token. The weights are 1 for every token that is present
    """

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        fused = hide_missing(tokens, mask).sum(-2)
        if not return_weights:
            return fused
        return fused, tokens.new_ones(tokens.shape[:-1]) if mask is None else mask.to(tokens.dtype)


def uniform_weights(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The same weight for every token that is present ``[..., M]``; they sum to 1.

    >>> import torch
    >>> uniform_weights(torch.zeros(1, 3, 2), torch.tensor([[True, False, True]]))
    tensor([[0.5000, 0.0000, 0.5000]])
    """
    if mask is None:
        return tokens.new_full(tokens.shape[:-1], 1 / tokens.shape[-2])
    present = mask.to(tokens.dtype)
    return present / present.sum(-1, keepdim=True).clamp(min=1)
