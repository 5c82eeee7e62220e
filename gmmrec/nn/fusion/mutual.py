"""Mutual attention between the regions of two images, each weighted given the mean of the other."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.errors import UsageError
from gmmrec.nn.additive import additive_logits
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax


class GuidedSum(nn.Module):
    r"""One side of :class:`MutualAttentionFusion`: attention over its tokens for a guide, and a projection of their sum.

    .. math::
        a_l = \mathrm{softmax}_l \big( \mathbf{w}^\top \tanh(\mathbf{W} \mathbf{f}_l + \mathbf{U} \mathbf{g}) \big), \qquad
        \mathbf{v} = \mathrm{ReLU} \Big( \mathbf{P} \sum_l a_l \mathbf{f}_l + \mathbf{p} \Big)

    Args:
        dim: Token width.
        guide_dim: Guide width.
        hidden: Hidden width of the logits.
        out_dim: Output width.
        attend: Whether to use attention; else weights are uniform.

    Shapes:
        - **input:** tokens ``[..., L, dim]``, mask ``[..., L]`` or None, guide ``[..., guide_dim]``
        - **output:** weights ``[..., L]``; :meth:`sum` returns ``[..., out_dim]``
    """

    def __init__(self, dim: int, guide_dim: int, hidden: int, out_dim: int, *, attend: bool = True) -> None:
        super().__init__()
        self.attend = attend
        self.project = nn.Linear(dim, out_dim)  # P and p
        if attend:
            self.token, self.guide = nn.Linear(dim, hidden, bias=False), nn.Linear(guide_dim, hidden, bias=False)  # W and U
            self.logit = nn.Linear(hidden, 1, bias=False)  # w

    def forward(self, tokens: Tensor, mask: Tensor | None, guide: Tensor) -> Tensor:
        """Compute weights ``[..., L]`` of tokens ``[..., L, D]`` for guides ``[..., G]``; leading axes are broadcast."""
        if not self.attend:
            return uniform_weights(tokens, mask)
        logits = self.logit(torch.tanh(self.token(tokens) + self.guide(guide).unsqueeze(-2))).squeeze(-1)
        return masked_softmax(logits, mask)

    def of_pairs(self, tokens: Tensor, mask: Tensor | None, guides: Tensor) -> Tensor:
        """Compute weights ``[G, N, L]`` of tokens ``[N, L, D]`` for all guides ``[G, ...]``, without gradients."""
        if not self.attend:
            return uniform_weights(tokens, mask).expand(len(guides), -1, -1)
        keys = self.token(tokens)
        logits = additive_logits(self.guide(guides), keys.flatten(0, 1), self.logit.weight[0])
        return masked_softmax(logits.to(keys.dtype).view(len(guides), *tokens.shape[:2]), mask)

    def sum(self, weights: Tensor, tokens: Tensor) -> Tensor:
        """Project the weighted sum of the tokens; zeros for a row without tokens."""
        return F.relu(torch.einsum("...l,...ld->...d", weights, self.project(tokens)))  # zero weights cancel p, too


class MutualAttentionFusion(nn.Module):
    r"""Mutual attention between the regions of two garments, as in NOR (Lin et al., TKDE 2019).

    .. math::
        \mathbf{g} = \mathrm{mean}_l\, \mathbf{f}_l, \qquad
        a_l = \mathrm{softmax}_l \big( \mathbf{w}^\top \tanh(\mathbf{W} \mathbf{f}_l + \mathbf{U} \mathbf{g}') \big), \qquad
        \mathbf{v} = \mathrm{ReLU} \Big( \mathbf{P} \sum_l a_l \mathbf{f}_l + \mathbf{p} \Big)

    for either side, with :math:`\mathbf{g}'` the mean of the other's regions. A reconstruction: the paper's abstract and figures
    (https://arxiv.org/abs/1806.08977) name the regions, the direction of the attention and its two results; the form is that of
    additive attention. It works for any two sets of tokens, such as an image and a text.

    Not in ``FUSIONS``, because it has two sides.

    Args:
        left_dim: Width of left tokens.
        right_dim: Width of right tokens; None for ``left_dim``.
        out_dim: Output width; None for ``left_dim``.
        hidden: Hidden width of the logits; None for ``left_dim``.
        share: Whether both sides share their parameters.
        attend: Whether to use attention; else weights are uniform and no side depends on the other.

    Shapes:
        - **input:** left ``[..., P, left_dim]``, right ``[..., Q, right_dim]``, masks ``[..., P]`` and ``[..., Q]``. Leading axes
          are broadcast: ``[B, 1, P, D]`` and ``[C, Q, D]`` give all pairs
        - **output:** left and right, ``[..., out_dim]`` each; zeros for a side without tokens. Weights ``[..., P]``, ``[..., Q]``

    Raises:
        UsageError: ``share`` is set for sides of different widths.

    >>> tops, bottoms = torch.randn(4, 49, 16), torch.randn(4, 49, 16)
    >>> (top, bottom), (top_weights, bottom_weights) = MutualAttentionFusion(16)(tops, bottoms, return_weights=True)
    >>> top.shape, bottom_weights.unflatten(-1, (7, 7)).shape
    (torch.Size([4, 16]), torch.Size([4, 7, 7]))
    """

    def __init__(
        self,
        left_dim: int,
        right_dim: int | None = None,
        out_dim: int | None = None,
        hidden: int | None = None,
        *,
        share: bool = False,
        attend: bool = True,
    ) -> None:
        super().__init__()
        dims = left_dim, right_dim or left_dim
        if share and dims[0] != dims[1]:
            raise UsageError(
                f"sides that share their parameters must have the same width, but the widths are {dims[0]} and {dims[1]}"
            )
        make: Callable[[int, int], GuidedSum] = lambda dim, guide_dim: GuidedSum(  # noqa: E731 (used for both sides)
            dim, guide_dim, hidden or left_dim, out_dim or left_dim, attend=attend
        )
        self.left = make(*dims)
        self.right = self.left if share else make(*dims[::-1])

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        left_mask: Tensor | None = None,
        right_mask: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Fuse each side given the other."""
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        weights = (
            self.left(left, left_mask, masked_mean(right, right_mask)),
            self.right(right, right_mask, masked_mean(left, left_mask)),
        )
        fused = self.left.sum(weights[0], left), self.right.sum(weights[1], right)
        return (fused, weights) if return_weights else fused

    def pairs(
        self, left: Tensor, right: Tensor, left_mask: Tensor | None = None, right_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fuse all pairs of ``[B, P, left_dim]`` and ``[C, Q, right_dim]``, to ``[B, C, out_dim]`` for each side.

        Without gradients the hidden layers of the pairs are never formed (:func:`~gmmrec.nn.additive.additive_logits`).
        """
        if torch.is_grad_enabled():
            mask = None if left_mask is None else left_mask.unsqueeze(1)
            left_fused, right_fused = self(left.unsqueeze(1), right, mask, right_mask)
            shape = len(left), len(right), -1
            return left_fused.expand(shape), right_fused.expand(shape)
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        left_weights = self.left.of_pairs(left, left_mask, masked_mean(right, right_mask)).transpose(0, 1)  # [B, C, P]
        right_weights = self.right.of_pairs(right, right_mask, masked_mean(left, left_mask))  # [B, C, Q]
        return self.left.sum(left_weights, left.unsqueeze(1)), self.right.sum(right_weights, right)
