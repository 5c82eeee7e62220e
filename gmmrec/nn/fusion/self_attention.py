"""Self-attention between tokens, then their mean."""

from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax


class SelfAttentionFusion(nn.Module):
    r"""Every token looks at all tokens, itself included; with a residual, and the mean over tokens in the end.

    .. math::
        \mathbf{Z} = \mathrm{softmax}\Big( \frac{(\mathbf{X} \mathbf{W}_Q) (\mathbf{X} \mathbf{W}_K)^\top}{\sqrt{D}} \Big)
            \mathbf{X} \mathbf{W}_V + \mathbf{X}, \qquad \mathbf{z} = \frac{1}{M} \sum_m \mathbf{Z}_m

    One head and no positions, so the order of the tokens does not matter. Our reading of the inter-modal aggregation of MCPTR
    (Liu et al., ICMR 2022), of which we know summaries but no equation. Missing tokens are left out of the softmax and of the mean.

    Args:
        dim: Width of a token.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros where there is no token. The weights are the attention that a token receives, on average
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses; takes no notice of ``query``."""
        tokens = hide_missing(tokens, mask)
        logits = self.query(tokens) @ self.key(tokens).mT / tokens.shape[-1] ** 0.5  # [..., M, M]
        attention = masked_softmax(logits, None if mask is None else mask.unsqueeze(-2))
        weights = masked_mean(attention, mask)  # [..., M]
        messages = (weights.unsqueeze(-1) * tokens).sum(-2)
        fused = self.value(messages) + masked_mean(tokens, mask)  # the mean and W_V are linear: one vector is mapped, not M
        return (fused, weights) if return_weights else fused
