"""Mutual attention: the regions of two things, each weighed in the light of the other as a whole."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmmrec.nn.additive import additive_logits
from gmmrec.nn.fusion.mean import uniform_weights
from gmmrec.nn.masked import hide_missing, masked_mean, masked_softmax


class GuidedSum(nn.Module):
    r"""One side of :class:`MutualAttentionFusion`: its tokens in the eyes of a guide, and what is made of their sum.

    .. math::
        a_l = \mathrm{softmax}_l \big( \mathbf{w}^\top \tanh(\mathbf{W} \mathbf{f}_l + \mathbf{U} \mathbf{g}) \big), \qquad
        \mathbf{v} = \mathrm{ReLU} \Big( \mathbf{P} \sum_l a_l \mathbf{f}_l + \mathbf{p} \Big)

    Args:
        dim: Width of a token.
        guide_dim: Width of the guide.
        hidden: Width of the hidden layer of a logit.
        out_dim: Width of the result.
        attend: Whether there is attention; else all tokens count alike.

    Shapes:
        - **input:** tokens ``[..., L, dim]``, mask ``[..., L]`` or None, guide ``[..., guide_dim]``
        - **output:** weights ``[..., L]``; the result of the weighted sum is ``[..., out_dim]``
    """

    def __init__(self, dim: int, guide_dim: int, hidden: int, out_dim: int, *, attend: bool = True) -> None:
        super().__init__()
        self.attend = attend
        self.project = nn.Linear(dim, out_dim)  # P and p
        if attend:
            self.token, self.guide = nn.Linear(dim, hidden, bias=False), nn.Linear(guide_dim, hidden, bias=False)  # W and U
            self.logit = nn.Linear(hidden, 1, bias=False)  # w

    def forward(self, tokens: Tensor, mask: Tensor | None, guide: Tensor) -> Tensor:
        """Weights ``[..., L]`` of tokens ``[..., L, D]`` beside guides ``[..., G]``; leading axes are broadcast."""
        if not self.attend:
            return uniform_weights(tokens, mask)
        logits = self.logit(torch.tanh(self.token(tokens) + self.guide(guide).unsqueeze(-2))).squeeze(-1)
        return masked_softmax(logits, mask)

    def of_pairs(self, tokens: Tensor, mask: Tensor | None, guides: Tensor) -> Tensor:
        """Weights ``[G, N, L]`` of the tokens ``[N, L, D]`` for every guide ``[G, ...]``, without a gradient."""
        if not self.attend:
            return uniform_weights(tokens, mask).expand(len(guides), -1, -1)
        keys = self.token(tokens)
        logits = additive_logits(self.guide(guides), keys.flatten(0, 1), self.logit.weight[0])
        return masked_softmax(logits.to(keys.dtype).view(len(guides), *tokens.shape[:2]), mask)

    def sum(self, weights: Tensor, tokens: Tensor) -> Tensor:
        """The vector of all tokens together; zeros where there is none."""
        return F.relu(torch.einsum("...l,...ld->...d", weights, self.project(tokens)))  # weights of nothing leave nothing of p


class MutualAttentionFusion(nn.Module):
    r"""Regions of two garments, each weighed in the light of the other garment: mutual attention (NOR, Lin et al., TKDE 2019).

    .. math::
        \mathbf{g} = \mathrm{mean}_l\, \mathbf{f}_l, \qquad
        a_l = \mathrm{softmax}_l \big( \mathbf{w}^\top \tanh(\mathbf{W} \mathbf{f}_l + \mathbf{U} \mathbf{g}') \big), \qquad
        \mathbf{v} = \mathrm{ReLU} \Big( \mathbf{P} \sum_l a_l \mathbf{f}_l + \mathbf{p} \Big)

    for either side, with :math:`\mathbf{g}'` the mean of the other's regions. A reconstruction: the paper's abstract and figures
    (https://arxiv.org/abs/1806.08977) name the regions, the direction of the attention and its two results; the form is that of
    additive attention. Any two sets of tokens will do, such as a picture and a text.

    With two sides it has no place in ``FUSIONS``.

    Args:
        left_dim: Width of a token on the left.
        right_dim: Width of a token on the right; None for that on the left.
        out_dim: Width of the results; None for ``left_dim``.
        hidden: Width of the hidden layer of a logit; None for ``left_dim``.
        share: Whether both sides have the same parameters.
        attend: Whether there is attention; else all tokens of a side count alike, and it does not depend on the other side.

    Shapes:
        - **input:** left ``[..., P, left_dim]``, right ``[..., Q, right_dim]``, masks ``[..., P]`` and ``[..., Q]``. Leading axes
          are broadcast: ``[B, 1, P, D]`` with ``[C, Q, D]`` are all pairs
        - **output:** left and right, ``[..., out_dim]`` each; zeros for a side without tokens. Weights ``[..., P]``, ``[..., Q]``

    Raises:
        ValueError: Sides of different width are to share their parameters.

    >>> tops, bottoms = torch.randn(4, 49, 16), torch.randn(4, 49, 16)
    >>> (top, bottom), (of_top, of_bottom) = MutualAttentionFusion(16)(tops, bottoms, return_weights=True)
    >>> top.shape, of_bottom.unflatten(-1, (7, 7)).shape
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
            raise ValueError(
                f"sides that share their parameters must be equally wide, but their widths are {dims[0]} and {dims[1]}"
            )
        make: Callable[[int, int], GuidedSum] = lambda own, other: GuidedSum(  # noqa: E731 (both sides, in one place)
            own, other, hidden or left_dim, out_dim or left_dim, attend=attend
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
        """Both sides as they look beside each other."""
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
        """All pairs of ``[B, P, left_dim]`` with ``[C, Q, right_dim]``, ``[B, C, out_dim]`` each.

        Without gradients the hidden layers of the pairs are never formed (:func:`~gmmrec.nn.additive.additive_logits`).
        """
        if torch.is_grad_enabled():
            mask = None if left_mask is None else left_mask.unsqueeze(1)
            one, other = self(left.unsqueeze(1), right, mask, right_mask)
            shape = len(left), len(right), -1
            return one.expand(shape), other.expand(shape)
        left, right = hide_missing(left, left_mask), hide_missing(right, right_mask)
        of_left = self.left.of_pairs(left, left_mask, masked_mean(right, right_mask)).transpose(0, 1)  # [B, C, P]
        of_right = self.right.of_pairs(right, right_mask, masked_mean(left, left_mask))  # [B, C, Q]
        return self.left.sum(of_left, left.unsqueeze(1)), self.right.sum(of_right, right)
