"""Self-attention between tokens, then a mean."""

from torch import Tensor, nn

from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax


class SelfAttentionFusion(nn.Module):
    r"""Self-attention over the tokens with a residual connection, then their mean.

    .. math::
        \mathbf{Z} = \mathrm{softmax}\Big( \frac{(\mathbf{X} \mathbf{W}_Q) (\mathbf{X} \mathbf{W}_K)^\top}{\sqrt{D}} \Big)
            \mathbf{X} \mathbf{W}_V + \mathbf{X}, \qquad \mathbf{z} = \frac{1}{M} \sum_m \mathbf{Z}_m

    There is one head and no positional encoding, so the order of the tokens does not matter. A reconstruction of the inter-modal
    aggregation of MCPTR (Liu et al., ICMR 2022), of which we know summaries but no equation. Missing tokens are excluded from both
    the softmax and the mean.

    Args:
        dim: Token width.

    Shapes:
        - **input:** tokens ``[..., M, D]``, mask ``[..., M]``
        - **output:** ``[..., D]``; zeros for a row without tokens. A token's weight is the mean attention it receives
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse the tokens; ``query`` is ignored."""
        tokens = hide_missing(tokens, mask)
        logits = self.query(tokens) @ self.key(tokens).mT / tokens.shape[-1] ** 0.5  # [..., M, M]
        attention = masked_softmax(logits, None if mask is None else mask.unsqueeze(-2))
        weights = masked_mean(attention, mask)  # [..., M]
        messages = (weights.unsqueeze(-1) * tokens).sum(-2)
        fused = self.value(messages) + masked_mean(tokens, mask)  # W_V is linear: map the mean, not M tokens
        return (fused, weights) if return_weights else fused
