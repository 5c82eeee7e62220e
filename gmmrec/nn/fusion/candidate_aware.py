"""Candidate-aware attention over a history of multimodal items."""

from torch import Tensor, nn

from gmmrec.errors import UsageError
from gmmrec.nn.masked import hide_missing, masked_softmax


class CandidateAwareAttention(nn.Module):
    r"""Attention of each candidate modality to each modality of a history: the user model of MM-Rec (Wu et al., SIGIR 2022).

    .. math::
        \alpha_i^{ab} = \mathrm{softmax}_i \langle \mathbf{c}^a, \mathbf{h}_i^b \rangle, \qquad
        \mathbf{u} = \sum_b \sum_i \Big( \sum_a \alpha_i^{ab} \Big) \mathbf{h}_i^b, \qquad
        s = \Big\langle \mathbf{u}, \sum_a \mathbf{c}^a \Big\rangle

    with modalities a, b (text and image in https://arxiv.org/abs/2104.07407) and clicks i. There are no parameters, and inner
    products are not scaled by default. In the authors' code padding takes part in the attention; here it is masked.

    Unlike in other fusions, tokens and queries have two axes: items and modalities.

    Args:
        scale: Factor of the inner products, such as ``dim ** -0.5`` if the softmax saturates.

    Shapes:
        - **input:** tokens ``[..., N, M, D]`` (clicks and their modalities), mask ``[..., N, M]`` or ``[..., N, 1]``, query
          ``[..., C, M', D]`` (candidates), query_mask ``[..., C, M']``
        - **output:** ``[..., C, D]``, a user vector per candidate; zeros for an empty history or candidate. Weights
          ``[..., C, M', N, M]`` sum to 1 over the clicks with that modality

    >>> import torch
    >>> attention = CandidateAwareAttention()
    >>> clicks, candidates = torch.randn(4, 50, 2, 16), torch.randn(4, 5, 2, 16)
    >>> attention(clicks, query=candidates).shape, attention.score(clicks, query=candidates).shape
    (torch.Size([4, 5, 16]), torch.Size([4, 5]))
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        query: Tensor | None = None,
        query_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the user vector for every candidate.

        Raises:
            UsageError: There is no query.
        """
        tokens, _, weights = self._attend(tokens, mask, query, query_mask)
        user = weights.sum(-3).flatten(-2) @ tokens.flatten(-3, -2)  # [..., C, N M] and [..., N M, D]
        return (user, weights) if return_weights else user

    def score(
        self, tokens: Tensor, mask: Tensor | None = None, query: Tensor | None = None, query_mask: Tensor | None = None
    ) -> Tensor:
        """Compute the scores ``[..., C]`` from weights and inner products, without holding user vectors."""
        _, products, weights = self._attend(tokens, mask, query, query_mask)
        return (weights.sum(-3) * products.sum(-3)).sum((-2, -1))

    def _attend(
        self, tokens: Tensor, mask: Tensor | None, query: Tensor | None, query_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clicks, the inner products and the weights ``[..., C, M', N, M]``."""
        if query is None:
            raise UsageError("candidate-aware attention needs a query, the candidates; pass their vectors [..., C, M, D]")
        tokens = hide_missing(tokens, None if mask is None else mask.expand(tokens.shape[:-1]))
        query = hide_missing(query, query_mask)
        products = query.flatten(-3, -2) @ tokens.flatten(-3, -2).mT  # [..., C M', N M]
        products = products.unflatten(-1, tokens.shape[-3:-1]).unflatten(-3, query.shape[-3:-1])
        present = None if mask is None else mask[..., None, None, :, :]
        weights = masked_softmax(self.scale * products, present, dim=-2)
        if query_mask is not None:
            weights = weights.masked_fill(~query_mask[..., None, None], 0.0)
        return tokens, products, weights
